"""One answer on its way from the engine's events to what a client is told."""

from __future__ import annotations

from collections.abc import Iterator

from localmtp.engine.decoding.generate import Generation
from localmtp.engine.events import Channel, Event, Finished, FinishReason, Generated
from localmtp.serve.generation.scoring import ScoringSampler
from localmtp.serve.generation.stops import StopScanner
from localmtp.serve.generation.tasks import Ended, Said, Scored, Task


class Answer:
    """What was said of an answer, up to a stop string.

    Args:
        generation: makes it; ended when a stop string is found.
        task: what was asked for.
        scoring: scores its tokens; None where that is not wanted.
    """

    def __init__(self, generation: Generation, task: Task, scoring: ScoringSampler | None) -> None:
        self.tokens = list(task.prompt)
        """Prompt and answer, as the model spelled it."""
        self._generation = generation
        self._scoring = scoring
        self._stops = StopScanner(task.stops)

    @property
    def reason(self) -> str:
        """Why it ended, as metrics count it."""
        return str(self._generation.reason or FinishReason.CANCELLED)

    def updates(self, event: Event) -> Iterator[Said | Ended]:
        """What an event says to the client."""
        if isinstance(event, Generated):
            self.tokens.extend(piece.token_id for piece in event.pieces)
            said = self._said(event)
            if said.text or said.thought or said.scores:
                yield said
            if self._stops.hit:
                self._generation.reason = FinishReason.STOP
        elif isinstance(event, Finished):
            if rest := self._stops.rest():
                yield Said(rest, "")
            stopped = event.reason is FinishReason.STOP
            yield Ended("stop" if stopped else "length", event.stats)

    def _said(self, event: Generated) -> Said:
        """One pass's text up to a stop string, with the scores of the answer's tokens."""
        text, thought = "", ""
        scores: list[Scored] = []
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
        return Said(text, thought, tuple(scores))
