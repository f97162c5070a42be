"""Automatic draft length: as long as the expected tokens are worth more than their time."""

from __future__ import annotations

from collections.abc import Callable

from localmtp.engine.pacing.learned import Learned
from localmtp.engine.pacing.rounds import LONGEST_COPY, Rounds
from localmtp.engine.pacing.stopping import ALWAYS, NEVER
from localmtp.limits import MAX_AUTO_DRAFT


class PacedAnswer:
    """Paces one answer of a batch; whoever runs the batch begins and settles its rounds.

    In a round everything is two comparisons per step; every few rounds the thresholds are solved
    anew (see `stopping`).

    Args:
        learned: of the drafter; shared with others who sample alike.
        rounds: of the batch; replaced when answers join or leave it.
    """

    def __init__(self, learned: Learned, rounds: Rounds) -> None:
        self.learned = learned
        self.rounds = rounds
        self._thresholds = ALWAYS
        # Of the running round:
        self._room = self._limit = self._length = 0
        self._reach = 1.0
        self._levels: list[int] = []
        self._copied: list[int] = []  # the level of each copied token
        self._forced = -1

    @property
    def state(self) -> str:
        """Why nothing is drafted, when nothing is."""
        rounds = self.rounds
        if rounds.thresholds(self.learned).go_on[0] < NEVER:
            return "on"
        plain = 1.0 / rounds.curve[0]
        drafted = (1.0 + self.learned.chances.mean) / (rounds.curve[1] + rounds.costs.step_s)
        slower = round(100 * (1.0 - drafted / plain))
        if slower < 1:
            return "off: drafting would not be faster here"
        return f"off: drafting would be {slower} % slower here"

    @property
    def steps(self) -> int:
        """Draft steps of the round."""
        return len(self._levels)

    def begin(self, limit: int) -> None:
        """A new round."""
        self._thresholds = self.rounds.thresholds(self.learned)
        self._room = limit
        self._limit = min(limit, MAX_AUTO_DRAFT)
        self._length = 0
        self._reach = 1.0
        self._levels = []
        self._copied = []
        self._forced = min(self.rounds.forced, self._limit)

    def copy(self, match: int, available: int) -> int:
        """As many as pay, if that is worth more than what the drafter is expected to bring."""
        if self._forced >= 0:
            return 0
        copies, rounds = self.learned.copies, self.rounds
        level = copies.level(match)
        accepted = copies.accepted[level]
        curve, rate, usual = rounds.curve, rounds.rate, self._thresholds.usual
        # A change of length is all answers' loss, and likely for this one's copy alone.
        away = 2.0 * rounds.change_s * rounds.answers if usual >= 0 else 0.0
        most, length, worth, reach = self._thresholds.worth, 0, rate * curve[0], 1.0
        for n in range(1, min(available, self._room, LONGEST_COPY) + 1):
            reach *= accepted
            worth += reach
            net = worth - rate * (curve[n] + (0.0 if n == usual else away))
            if net > most:
                most, length = net, n
        self._copied = [level] * length
        return length

    def go_on(self) -> bool:
        """Whether the drafts so far are sure enough to pay for another step."""
        at = self._length
        if at >= self._limit:
            return False
        if self._forced >= 0:
            return at < self._forced
        if self.rounds.looking and not self._levels:
            return True
        return self._reach >= self._thresholds.go_on[at]

    def keep(self, confidence: float) -> bool:
        """Whether this token, its draft step paid already, is worth a row of verification."""
        chances = self.learned.chances
        level = chances.level(confidence)
        self._levels.append(level)
        reach = self._reach * chances.accepted[level]
        if self._forced < 0 and reach < self._thresholds.keep[self._length]:
            return False
        self._reach = reach
        self._length += 1
        return True

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learn what was right."""
        levels, chances = self._levels, self.learned.chances
        self.learned.copies.judged(self._copied, accepted)
        if levels:
            chances.saw(levels, looking=self.rounds.looking)
            chances.judged(levels[: self._length], accepted)


class AutoPacing(PacedAnswer):
    """Paces an answer that is decoded alone.

    Args:
        learned: to begin with.
        threads: how many compute now. With another number all costs are others.
    """

    def __init__(
        self, learned: Learned | None = None, threads: Callable[[], int] = lambda: 1
    ) -> None:
        super().__init__(learned or Learned(), Rounds())
        self._threads = threads
        self._count = threads()
        self._latest = -1  # tokens drafted in the round before
        self._resting = 0  # rounds to come without a draft, and without thinking about one
        self._rested = 0
        self._rested_s = 0.0

    @property
    def plain_tokens_per_s(self) -> float:
        """Passes without a draft per second of verification; 0 before one was made."""
        return self.rounds.plain_tokens_per_s

    def begin(self, limit: int) -> None:
        """A new round of the batch, and of its only answer."""
        count = self._threads()
        if count != self._count:
            self._count, self.rounds = count, Rounds()
            self._resting = self._rested = 0
            self._rested_s = 0.0
        if self._resting:
            self._room, self._limit, self._forced = limit, 0, -1
            return
        self.rounds.begin()
        super().begin(limit)

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learn what was right, and what it took."""
        if self._resting:
            if not self._copied:
                self._rest(draft_s + verify_s)
                return
            self._wake()
        super().settle(accepted, draft_s, verify_s)
        drafted = self._length or len(self._copied)
        same, self._latest = drafted == self._latest, drafted
        self.rounds.settle(drafted, self.steps, accepted + 1, draft_s, verify_s, same=same)
        self._resting = self.rounds.rest if same and not drafted and not self._levels else 0

    def _rest(self, seconds: float) -> None:
        """Note a plain round; a small model would feel more."""
        self._rested += 1
        self._rested_s += seconds
        self._resting -= 1
        if not self._resting:
            self._wake()

    def _wake(self) -> None:
        if self._rested:
            self.rounds.rested(self._rested, self._rested_s)
        self._resting = self._rested = 0
        self._rested_s = 0.0
