"""One choice being generated: from the engine's events to updates for the client."""

from __future__ import annotations

from collections.abc import Iterator

from localmtp.engine.decoding.generation import Generation
from localmtp.engine.events import Channel, Event, Finished, FinishReason, Generated
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
        self._scoring = scoring
        self._stops = StopScanner(params.stops)

    @property
    def reason(self) -> str:
        """Finish reason, as labelled in the metrics."""
        return str(self._generation.reason or FinishReason.CANCELLED)

    def updates(self, event: Event) -> Iterator[Delta | Done]:
        """Convert an event of the engine."""
        if isinstance(event, Generated):
            self.tokens.extend(piece.token_id for piece in event.pieces)
            delta = self._delta(event)
            if delta.text or delta.thought or delta.logprobs:
                yield delta
            if self._stops.hit:
                self._generation.stop()
        elif isinstance(event, Finished):
            if rest := self._stops.rest():
                yield Delta(rest, "")
            stopped = event.reason is FinishReason.STOP
            yield Done("stop" if stopped else "length", event.stats)

    def _delta(self, event: Generated) -> Delta:
        """Text of one pass up to a stop string, with the scores of the answer's tokens."""
        text, thought = "", ""
        scores: list[TokenLogprobs] = []
        for piece in event.pieces:
            score = self._scoring.scores.popleft() if self._scoring else None
            if piece.channel is Channel.THOUGHT:
                thought += piece.text
                continue
            text += self._stops.feed(piece.text)
            if self._stops.hit:
                break
            if score:
                scores.append(score)
        return Delta(text, thought, tuple(scores))
