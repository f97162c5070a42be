"""One client request on its way through the model thread: jobs, and the updates they produce."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from threading import Event
from time import perf_counter
from typing import Any

from localmtp.engine.events import Channel
from localmtp.engine.llama import Grammar
from localmtp.engine.media import PlacedMedia
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.engine.text.tool_calls import ToolCall
from localmtp.serve.errors import APIError
from localmtp.serve.generation.logprobs import TokenLogprobs


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """One choice to generate."""

    prompt: Sequence[int]
    """Token ids that fit the context; those below 0 are rows of `media`."""
    sampling: SamplingParams
    n_draft: int | None
    """As in `Settings`."""
    max_tokens: int | None
    stops: tuple[str, ...] = ()
    """Strings that end the choice; they are not part of its text."""
    logprobs: int | None = None
    """Number of alternatives to score per token; None: no log-probabilities."""
    grammar: Grammar | None = None
    """Constrains the text; cloned for each choice."""
    functions: Mapping[str, Mapping[str, Any] | None] | None = None
    """Parameter schemas by function name, to parse tool calls; None: calls are part of the text."""
    think_budget: int | None = None
    """Maximum tokens of thoughts."""
    channel: Channel = Channel.ANSWER
    """Channel of the first token; a template may open a thought at the end of the prompt."""
    media: Sequence[PlacedMedia] = ()
    """Images and sounds of the prompt, in its order."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Additions to a choice by one or more passes, in this order: thought, text, calls."""

    text: str = ""
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The last update of a choice."""

    reason: str
    """`stop` or `length`."""
    stats: Stats
    calls: int = 0
    """Number of tool calls."""
    unparsed_calls: int = 0
    """Number of tool calls that could not be parsed and became text."""
    stop_string: str | None = None
    """The stop string that ended the choice, if any."""


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The last update of a job that failed."""

    error: APIError


Update = Delta | Done | JobFailed


class GenerationJob:
    """One client request: its choices, and their updates as they arrive.

    The model thread never waits for a reader: updates are buffered here, bounded by the context.
    Created and read on the event loop; the model thread calls `deliver` and owns `started` and
    `deadline`.

    Args:
        params: one entry per choice.
        client: who sent the request, for a fair queue.
        interval_s: minimum time in seconds between two batches of text; the first text and the end
            of a choice are never delayed. Every wake-up of the event loop costs the model thread
            time.
    """

    def __init__(
        self, params: Sequence[GenerationParams], *, client: str = "", interval_s: float
    ) -> None:
        self.params = params
        self.client = client
        self.cancelled = Event()
        self.submitted = perf_counter()
        """In seconds on the monotonic clock."""
        self.started = 0
        """Number of choices that the model has started."""
        self.deadline = inf
        """End of generation, on the same clock."""
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[tuple[int, Update]] = deque()
        self._some, self._urgent = asyncio.Event(), asyncio.Event()
        self._notified = False

    def deliver(self, index: int, update: Update) -> None:
        """Buffer an update of choice `index` and wake the event loop; never blocks."""
        self._arrived.append((index, update))
        urgent = not isinstance(update, Delta)
        if urgent or not self._notified:
            self._notified = True
            with suppress(RuntimeError):  # the event loop is closed: no reader is left
                self._loop.call_soon_threadsafe(self._notify, urgent)

    async def updates(self) -> AsyncIterator[tuple[int, Delta | Done]]:
        """Yield updates with the index of their choice until all choices are done.

        Raises:
            APIError: generation failed, or the server is shutting down.
        """
        left, looked = len(self.params), -inf
        while left:
            await self._some.wait()
            wait = looked + self._interval_s - self._loop.time()
            if wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), wait if wait < inf else None)
            looked = self._loop.time()
            for index, update in _merged(self._take()):
                if isinstance(update, JobFailed):
                    raise update.error
                left -= isinstance(update, Done)
                yield index, update

    def _take(self) -> Iterator[tuple[int, Update]]:
        self._some.clear()
        self._urgent.clear()
        self._notified = False  # before reading: an update that arrives meanwhile notifies again
        while self._arrived:
            yield self._arrived.popleft()

    def _notify(self, urgent: bool) -> None:
        self._some.set()
        if urgent:
            self._urgent.set()


def _merged(arrived: Iterable[tuple[int, Update]]) -> list[tuple[int, Update]]:
    """Concatenates the deltas of each choice, so that fewer events are sent."""
    deltas: dict[int, Delta] = {}
    merged: list[tuple[int, Update]] = []
    for index, update in arrived:
        if not isinstance(update, Delta):
            merged += [(index, deltas.pop(index))] if index in deltas else []
            merged.append((index, update))
            continue
        before = deltas.get(index)
        if before is None or not _joins(before, update):
            merged += [(index, before)] if before else []
            deltas[index] = update
            continue
        deltas[index] = Delta(
            before.text + update.text,
            before.thought + update.thought,
            before.calls + update.calls,
            before.logprobs + update.logprobs,
        )
    return [*merged, *deltas.items()]


def _joins(before: Delta, update: Delta) -> bool:
    """Whether one delta can hold both without changing their order."""
    late_text = before.calls and (update.text or update.thought)
    return not late_text and not (before.text and update.thought)
