"""One choice being generated: from the engine's events to updates for the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from localmtp.engine.decoding.generation import Generation
from localmtp.engine.events import Channel, Edge, Event, Finished, FinishReason, Generated, Piece
from localmtp.engine.text.tool_calls import ToolCall, parse_calls, readable
from localmtp.serve.generation.job import Delta, Done, GenerationParams
from localmtp.serve.generation.logprobs import LogprobsSampler, TokenLogprobs
from localmtp.serve.generation.stop_strings import StopScanner


class RunningChoice:
    """A choice in the batch; its text ends before the first stop string.

    Args:
        generation: produces the events; ended when a stop string is found.
        params: the request's parameters.
        scoring: scores the tokens; None without log-probabilities.
    """

    def __init__(
        self, generation: Generation, params: GenerationParams, scoring: LogprobsSampler | None
    ) -> None:
        self.tokens = list(params.prompt)
        """Prompt and generated token ids, as in the KV cache."""
        self._generation = generation
        self._functions = params.functions or {}
        self._scoring = scoring
        self._stops = StopScanner(params.stops)
        self._scores = _AlignedScores()
        self._call: list[str] | None = None
        """Text of a tool call that is not complete."""
        self._marked = True
        """Whether a marker opened that call."""
        self._calls, self._unparsed = 0, 0

    @property
    def reason(self) -> str:
        """Finish reason, as labelled in the metrics."""
        return str(self._generation.reason or FinishReason.CANCELLED)

    def updates(self, event: Event) -> Iterator[Delta | Done]:
        """Convert an event of the engine."""
        if isinstance(event, Generated):
            self.tokens.extend(piece.token_id for piece in event.pieces if piece.token_id >= 0)
            yield from self._deltas(event)
            if self._stops.hit:
                self._generation.stop()
        elif isinstance(event, Finished):
            last = _DeltaBuilder()
            self._end_call(last, cut=event.reason is not FinishReason.STOP)
            last.text += self._stops.rest()
            last.logprobs += self._scores.release(self._stops.released, final=True)
            if last:
                yield last.build()
            stopped = event.reason is FinishReason.STOP
            reason = "stop" if stopped else "length"
            matched = self._stops.matched
            yield Done(reason, event.stats, self._calls, self._unparsed, matched)

    def _deltas(self, event: Generated) -> Iterator[Delta]:
        delta = _DeltaBuilder()
        for piece in event.pieces:
            scored = self._scoring is not None and piece.token_id >= 0
            score = self._scoring.scores.popleft() if self._scoring and scored else None
            if delta.calls and piece.channel is not Channel.TOOL_CALL:
                yield delta.build()
                delta = _DeltaBuilder()
            self._read(piece, score, delta)
            if self._stops.hit:
                break
        delta.logprobs += self._scores.release(self._stops.released, final=self._stops.hit)
        if delta:
            yield delta.build()

    def _read(self, piece: Piece, score: TokenLogprobs | None, delta: _DeltaBuilder) -> None:
        if piece.channel is Channel.TOOL_CALL:
            if piece.edge is not Edge.NONE:
                self._end_call(delta)
            if piece.edge is Edge.OPEN:
                delta.text += self._stops.rest()  # a stop string does not span a call
            if piece.edge is not Edge.CLOSE:
                if self._call is None:
                    # Only a call without a marker opens with text.
                    self._call, self._marked = [], not piece.text
                self._call.append(piece.text)
            return
        self._end_call(delta)
        if piece.channel is Channel.THOUGHT:
            delta.thought += piece.text
            return
        delta.text += self._stops.feed(piece.text)
        if score:
            self._scores.add(score, piece.text)

    def _end_call(self, delta: _DeltaBuilder, *, cut: bool = False) -> None:
        """Parse the open call, if any; a call that is cut off or cannot be parsed becomes text."""
        if self._call is None:
            return
        text, self._call = "".join(self._call), None
        calls = [] if cut else parse_calls(text, self._functions, marked=self._marked)
        delta.calls += calls
        self._calls += len(calls)
        if not calls:
            self._unparsed += self._marked
            delta.text += self._stops.feed(readable(text))


@dataclass(slots=True)
class _DeltaBuilder:
    text: str = ""
    thought: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.thought or self.calls or self.logprobs)

    def build(self) -> Delta:
        return Delta(self.text, self.thought, tuple(self.calls), tuple(self.logprobs))


class _AlignedScores:
    """Holds scores back until the text of their tokens is released."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, str, TokenLogprobs]] = deque()
        self._fed = 0

    def add(self, score: TokenLogprobs, text: str) -> None:
        """Add the score of a token that completed this text."""
        self._held.append((self._fed, text, score))
        self._fed += len(text)

    def release(self, released: int, *, final: bool) -> Iterator[TokenLogprobs]:
        """Scores of the first `released` characters; with `final`, the rest is discarded.

        A stop string may end the text inside a token: its score is reported with the part of the
        token that is in the text.
        """
        while self._held:
            start, text, score = self._held[0]
            end = start + len(text)
            if start >= released or (end > released and not final):
                break
            self._held.popleft()
            if end > released:
                data = text[: released - start].encode()
                score = replace(score, chosen=replace(score.chosen, data=data))
            yield score
        if final:
            self._held.clear()
