"""What the front of the server asks of the model's thread, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter

from localmtp.engine.llama import Grammar
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.serve.errors import APIError


@dataclass(frozen=True, slots=True)
class Task:
    """One answer to generate."""

    prompt: Sequence[int]
    """Token ids that fit the context."""
    sampling: SamplingParams
    n_draft: int | None
    """As in `Settings`."""
    max_tokens: int | None
    stops: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""
    logprobs: int | None = None
    """Score each token, with this many alternatives; None: do not."""
    grammar: Grammar | None = None
    """What the answer must follow, at its beginning."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that could have been chosen."""

    data: bytes
    logprob: float
    """Natural logarithm of the model's probability, before temperature and truncation."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A token that was chosen, and the most probable ones in its place."""

    chosen: Choice
    top: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """Text of one or more passes."""

    text: str
    thought: str
    scores: tuple[Scored, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The last update of an answer."""

    reason: str
    """`stop` or `length`."""
    stats: Stats


@dataclass(frozen=True, slots=True)
class Failed:
    """The last update of an order that could not be carried out."""

    error: APIError


Update = Said | Ended | Failed


@dataclass(slots=True, eq=False)
class Order:
    """The answers to one request."""

    tasks: Sequence[Task]
    deliver: Callable[[int, Update], None]
    """Called on the model's thread with the number of the task."""
    cancelled: Event = field(default_factory=Event)
    submitted: float = field(default_factory=perf_counter)
    """Seconds on the monotonic clock."""
    begun: int = 0
    """How many of the tasks have begun; the model's thread counts."""
    deadline: float = float("inf")
    """When its generation is ended, on the same clock."""
