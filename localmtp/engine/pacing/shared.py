"""Pacing of answers that are decoded together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localmtp.engine.pacing.auto import PacedAnswer
from localmtp.engine.pacing.learned import Learned
from localmtp.engine.pacing.protocol import Pacing
from localmtp.engine.pacing.rounds import Rounds
from localmtp.engine.pacing.rows import Rows

_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)
"""Batch sizes that are told apart; a pass of thirteen is much like one of sixteen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round was for one answer."""

    pacing: Pacing
    drafted: int
    """Tokens verified."""
    steps: int
    """Draft steps; a last token that was not worth verifying took one too."""
    tokens: int
    """That came of it."""


class SharedPacing:
    """Draft lengths for a batch of answers, whose size changes as they come and go.

    Drafting fades out as the batch grows, where that is what the measured passes say, and comes
    back as it shrinks: every size has measurements of its own, and begins with those of others.

    Args:
        threads: see `AutoPacing`.
    """

    def __init__(self, threads: Callable[[], int] = lambda: 1) -> None:
        self._threads = threads
        self._count = threads()
        self._rounds: dict[int, Rounds] = {}
        self._rows = Rows()
        self._latest = 0  # rows of the pass before
        self._running = self._of(1)

    def answer(self, learned: Learned) -> PacedAnswer:
        """The pacing of an answer that joins."""
        return PacedAnswer(learned, self._running)

    def begin(self, answers: Sequence[Pacing]) -> None:
        """A new round of so many answers; some may have draft lengths of their own."""
        count = self._threads()
        if count != self._count:
            self._count, self._rounds, self._rows = count, {}, Rows()
        self._running = self._of(len(answers))
        self._running.begin()
        for answer in answers:
            if isinstance(answer, PacedAnswer):
                answer.rounds = self._running

    def settle(self, outcomes: Sequence[Outcome], draft_s: float, verify_s: float) -> None:
        """Learn what the round took.

        Args:
            outcomes: of all answers. The rows of those with lengths of their own are part of what
                every pass takes, and nothing to decide about.
            draft_s: seconds that drafting took.
            verify_s: seconds that the pass and its judgement took.
        """
        rows = len(outcomes) + sum(one.drafted for one in outcomes)
        same, self._latest = rows == self._latest, rows
        if same or rows > len(outcomes):
            self._rows.saw(rows, verify_s - (0.0 if same else self._running.change_s))
        paced = [one for one in outcomes if isinstance(one.pacing, PacedAnswer)]
        if not paced:
            return
        drafted = sum(one.drafted for one in paced) / len(paced)
        tokens = sum(one.tokens for one in paced) / len(paced)
        steps = max(one.steps for one in paced)
        self._running.settle(drafted, steps, tokens, draft_s, verify_s, same=same)

    def _of(self, answers: int) -> Rounds:
        size = _SIZES[min(bisect_left(_SIZES, answers), len(_SIZES) - 1)]
        if size not in self._rounds:
            nearest = min(self._rounds, key=lambda other: abs(other - size), default=size)
            near = self._rounds.get(nearest)
            self._rounds[size] = Rounds(size, self._rows, near.costs if near else None)
        return self._rounds[size]
