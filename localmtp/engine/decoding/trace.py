"""What pacing saw and what came of it, round by round, for the laboratory of `localmtp bench`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localmtp.engine.llama import Floats
from localmtp.engine.pacing import FixedPacing, Pacing
from localmtp.engine.sampling.sampler import Draft, Proposal, Sampler
from localmtp.limits import MAX_AUTO_DRAFT


@dataclass(frozen=True, slots=True)
class Round:
    """One round of drafting and verifying."""

    confidence: tuple[float, ...]
    """Of each draft step: how sure the drafter was, a last token not verified included."""
    drafted: int
    """Tokens verified."""
    accepted: int
    draft_s: float
    verify_s: float


Sink = Callable[[Round], None]


class Trace:
    """Records the rounds of an answer.

    Args:
        sink: is given each round as it ends.
        full: draft at full length at every position and commit one token only, so that any other
            policy can be replayed on the record; the text is the same, the speed is not.
    """

    def __init__(self, sink: Sink, *, full: bool = False) -> None:
        self._sink = sink
        self._full = full

    def watch(self, sampler: Sampler, pacing: Pacing) -> tuple[Sampler, Pacing]:
        """What to generate with instead."""
        if not self._full:
            return sampler, _Watched(pacing, self._sink)
        pacing = FixedPacing(MAX_AUTO_DRAFT)
        judge = _OneAtATime(sampler)
        return judge, _Watched(pacing, self._sink, judge)


class _OneAtATime:
    """Judges whole drafts, but lets only their first token through.

    That token is the accepted one or its correction, so the output is distributed as ever.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.accepted = 0

    def propose(self, logits: Floats) -> Proposal:
        return self._sampler.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        return self._sampler.draw(proposal, draft)

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        self.accepted, follower = self._sampler.judge(logits, draft)
        return 0, draft.tokens[0] if self.accepted else follower


class _Watched:
    """A pacing whose rounds are recorded."""

    def __init__(self, pacing: Pacing, sink: Sink, judge: _OneAtATime | None = None) -> None:
        self._pacing = pacing
        self._sink = sink
        self._judge = judge
        self._confidence: list[float] = []
        self._drafted = 0

    @property
    def state(self) -> str:
        return self._pacing.state

    def begin(self, limit: int) -> None:
        self._confidence.clear()
        self._drafted = 0
        self._pacing.begin(limit)

    def copy(self, match: int, available: int) -> int:
        self._drafted = self._pacing.copy(match, available)
        return self._drafted

    def go_on(self) -> bool:
        return self._pacing.go_on()

    def keep(self, confidence: float) -> bool:
        self._confidence.append(confidence)
        kept = self._pacing.keep(confidence)
        self._drafted += kept
        return kept

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        self._pacing.settle(accepted, draft_s, verify_s)
        if self._judge is not None:
            accepted = self._judge.accepted
        self._sink(Round(tuple(self._confidence), self._drafted, accepted, draft_s, verify_s))
