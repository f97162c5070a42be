"""Events of an answer: a closed union, with one `Generated` per target pass."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from localmtp.engine.stats import Stats


class Origin(StrEnum):
    """Origin of a token."""

    PREFILL = "prefill"
    """Chosen from the last row of the prompt."""
    TARGET = "target"
    """Chosen by the target: in a pass without a draft, after a rejected draft, or as the bonus
    token."""
    DRAFT = "draft"
    """Proposed by the drafter and accepted by the target."""
    UNKNOWN = "unknown"
    """From a server that does not report it."""


class Channel(StrEnum):
    """Part of the turn that a token belongs to."""

    ANSWER = "answer"
    THOUGHT = "thought"
    TOOL_CALL = "tool_call"
    """A function call in the model's notation; see `localmtp.engine.text.tool_calls`."""


class Edge(StrEnum):
    """Kind of marker around a channel; markers have no text."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


class FinishReason(StrEnum):
    """Reason why an answer ended."""

    STOP = "stop"
    """The model ended its turn."""
    LENGTH = "length"
    """`max_tokens` was reached, or the context is full."""
    REPEAT = "repeat"
    """The answer repeated itself."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """The server or the model's process failed or disappeared."""


class Piece(NamedTuple):
    """A generated token, and the text that it completed."""

    token_id: int
    text: str
    """Empty for control tokens, and while a character is split over several tokens."""
    origin: Origin
    channel: Channel = Channel.ANSWER
    edge: Edge = Edge.NONE


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Prefill progress, after each pass."""

    done: int
    """Prompt tokens in the KV cache, including reused ones."""
    total: int
    reused: int
    """Prompt tokens that were already in the KV cache."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Tokens of one pass; in the first event, the token chosen after prefill."""

    pieces: tuple[Piece, ...]
    drafted: tuple[int, ...] = ()
    """Drafted token ids, of which a prefix was accepted."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Always the last event."""

    reason: FinishReason
    stats: Stats


Event = Prefilled | Generated | Finished
