"""Automatic draft length: as long as the expected tokens are worth more than their time."""

from __future__ import annotations

from typing import Any

from localmtp.engine.pacing.chances import Chances, Copies
from localmtp.engine.pacing.costs import Costs
from localmtp.engine.pacing.stopping import ALWAYS, NEVER, thresholds

LONGEST = 8
"""Longest automatic draft: the drafters are trained for about as many steps, and beyond it even
predictable text gains less than a miss costs."""

LONGEST_COPY = 16
"""Longest copy from the context: what repeats often does so at length, and copying is free."""

_WARM_UP = (2, 0, 1, 3)
"""Lengths of the first rounds, so that the cost of a pass is measured at several, 0 included."""

_REMEMBER = 0.975
"""Decay per round of the sums behind the rate: about the last forty rounds count."""

_EVERY = 32
"""Rounds between two solutions, after the first few: estimates move slowly, and solving takes about
as long as ten rounds of everything else here."""

_EARLY = (6, 8, 12, 16, 24)
"""Rounds of a first answer after which it is done too: much is learned there."""

_LOOK_SHARE = 0.01
"""While nothing is drafted, a draft step is taken now and then to see whether the text has become
predictable; so seldom that all of them together cost a hundredth of the time."""

_RECHECK = 256
"""Rounds between two checks of what was not tried lately, 0.4 % of them. While drafting it is a
plain pass: a drafter that has come to cost speed would not be found out otherwise. While nothing is
drafted it is a short draft: passes may have become cheaper, as when the machine is idle again."""


class AutoPacing:
    """Learns costs and chances as it goes, and drafts while it pays.

    In a round everything is two comparisons per step; every few rounds the thresholds are solved
    anew (see `stopping`).
    """

    def __init__(self) -> None:
        self._costs = Costs(LONGEST_COPY)
        self._chances = Chances()
        self._copies = Copies()
        self._curve: list[float] = []
        self._tokens = self._seconds = 0.0  # decayed; their ratio is the rate
        self._warm_up = list(_WARM_UP)
        self._thresholds = ALWAYS
        self._rounds = self._idle = self._uncopied = 0
        # Of the running round:
        self._room = self._limit = self._length = 0
        self._reach = 1.0
        self._levels: list[int] = []
        self._copied: list[int] = []  # the level of each copied token
        self._forced = -1
        self._looking = False

    @property
    def state(self) -> str:
        """Why nothing is drafted, when nothing is."""
        if self._thresholds.go_on[0] < NEVER:
            return "on"
        plain = 1.0 / self._curve[0]
        drafted = (1.0 + self._chances.mean) / (self._curve[1] + self._costs.step_s)
        slower = round(100 * (1.0 - drafted / plain))
        if slower < 1:
            return "off: drafting would not be faster here"
        return f"off: drafting would be {slower} % slower here"

    @property
    def plain_tokens_per_s(self) -> float:
        """Passes without a draft per second of verification; 0 before one was made."""
        return 1.0 / self._costs.pass_s[0] if self._costs.pass_s[0] else 0.0

    def begin(self, limit: int) -> None:
        """Warm up, check, have a look, or leave it to the thresholds."""
        self._room = limit
        self._limit = min(limit, LONGEST)
        self._length = 0
        self._reach = 1.0
        self._levels = []
        self._copied = []
        self._forced = -1
        self._looking = False
        if self._warm_up:
            self._forced = min(self._warm_up[0], self._limit)
        elif self._rounds % _RECHECK == 0:
            on = self._thresholds.go_on[0] < NEVER
            checks = self._rounds // _RECHECK
            self._forced = 0 if on else min(1 + checks % 3, self._limit)
        elif self._thresholds.go_on[0] >= NEVER:
            costs = self._costs
            self._looking = self._idle * _LOOK_SHARE * costs.pass_s[0] >= costs.step_s

    def copy(self, match: int, available: int) -> int:
        """As many as pay, if that is worth more than what the drafter is expected to bring."""
        if self._forced >= 0:
            return 0
        level = self._copies.level(match)
        accepted = self._copies.accepted[level]
        curve, rate = self._curve, self._tokens / self._seconds
        most, length, worth, reach = self._thresholds.worth, 0, rate * curve[0], 1.0
        for n in range(1, min(available, self._room, LONGEST_COPY) + 1):
            reach *= accepted
            worth += reach
            if worth - rate * curve[n] > most:
                most, length = worth - rate * curve[n], n
        self._copied = [level] * length
        return length

    def go_on(self) -> bool:
        """Whether the drafts so far are sure enough to pay for another step."""
        at = self._length
        if at >= self._limit:
            return False
        if self._forced >= 0:
            return at < self._forced
        if self._looking and not self._levels:
            return True
        return self._reach >= self._thresholds.go_on[at]

    def keep(self, confidence: float) -> bool:
        """Whether this token, its draft step paid already, is worth a row of verification."""
        chances = self._chances
        level = chances.level(confidence)
        self._levels.append(level)
        reach = self._reach * chances.accepted[level]
        if self._forced < 0 and reach < self._thresholds.keep[self._length]:
            return False
        self._reach = reach
        self._length += 1
        return True

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learn from a finished round."""
        length, levels, copied = self._length, self._levels, self._copied
        self._costs.verified(length or len(copied), verify_s)
        self._copies.judged(copied, accepted)
        if levels:
            self._costs.drafted(len(levels), draft_s)
            self._chances.saw(levels, looking=self._looking)
            self._chances.judged(levels[:length], accepted)
        self._idle = 0 if levels else self._idle + 1
        self._uncopied = 0 if copied else self._uncopied + 1
        self._tokens = self._tokens * _REMEMBER + accepted + 1
        self._seconds = self._seconds * _REMEMBER + draft_s + verify_s
        self._rounds += 1
        if self._warm_up:
            if length == self._forced:
                del self._warm_up[0]
            if not self._warm_up:
                self._solve()
        elif self._rounds % _EVERY == 0 or self._rounds in _EARLY or self._looking:
            if self._idle:
                self._chances.paused(min(_EVERY, self._idle))
            if self._uncopied:
                self._copies.paused(min(_EVERY, self._uncopied))
            self._solve()

    def dump(self) -> dict[str, Any]:
        """What is worth keeping for the next run, as JSON has it.

        Not what passes cost: the machine may be busy now and idle then, and four rounds show it.
        """
        return {
            "accepted": self._chances.accepted,
            "share": self._chances.share,
            "copied": self._copies.accepted,
        }

    @classmethod
    def load(cls, kept: dict[str, Any]) -> AutoPacing:
        """The opposite of `dump`: begins with what another run learned of the drafter.

        Raises:
            KeyError, ValueError, TypeError: not made by `dump`.
        """
        pacing = cls()
        pacing._chances.load(kept["accepted"])
        pacing._chances.share = kept["share"]
        pacing._copies.load(kept["copied"])
        return pacing

    def _solve(self) -> None:
        self._curve = self._costs.curve()
        self._chances.review()
        self._thresholds = thresholds(
            self._curve[: LONGEST + 1],
            self._costs.step_s,
            self._tokens / self._seconds,
            self._chances.accepted,
            self._chances.share,
        )
