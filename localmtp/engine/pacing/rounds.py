"""Rounds of one batch size: what they cost, which to spend on finding out, when drafting pays.

A batch is the answers that are decoded together, one being the ordinary case. All of them share a
pass, so a row more costs what the pass grows by, and that depends on how many rows are there
already: drafts live on compute that one answer leaves idle, and several leave less of it. Each size
is therefore measured by itself. The answers are taken to draft alike: of a pass of B answers with n
drafts each, an answer pays the B-th part, and brings the B-th part of the tokens.
"""

from __future__ import annotations

from math import ceil, inf

from localmtp.engine.pacing.costs import Costs
from localmtp.engine.pacing.learned import Learned
from localmtp.engine.pacing.rows import Rows
from localmtp.engine.pacing.stopping import (
    ALWAYS,
    FREE,
    NEVER,
    Policies,
    Thresholds,
    alone,
    beside,
    thresholds,
)
from localmtp.limits import MAX_AUTO_DRAFT

LONGEST_COPY = 16
"""Longest copy from the context: what repeats often does so at length, and copying is free."""

_WARM_UP = (3, 3, 0, 0, 1)
"""Lengths of the first rounds, so that the cost of a pass is measured at several, 0 included, and
what it takes to change the number of rows: the first of two alike pays for that."""

_WARM_UP_BESIDE = (0, 0, 1)
"""As above, for several answers: where they leave no idle compute, a draft for all of them costs as
much as a pass."""

_REMEMBER = 0.975
"""Decay per round of the sums behind the rate: about the last forty rounds count."""

_EVERY = 32
"""Rounds between two solutions, after the first few: estimates move slowly, and solving takes about
as long as ten rounds of everything else here."""

_EARLY = (6, 8, 12, 16, 24)
"""Rounds of a first answer after which it is done too: much is learned there."""

_SOLVE_SHARE, _SOLVE_S = 0.005, 0.0003
"""A solution takes about so many seconds, and all of them at most half a percent of the time."""

_LOOK_SHARE = 0.005
"""While nothing is drafted, a draft step is taken now and then to see whether the text has become
predictable; so seldom that all of them together cost half a percent of the time. Its token is
verified as well as often as that is expected to lose no more: the nearer drafting comes to paying,
the sooner it is known whether it does."""

_LEAST_TRIAL = 0.02
"""Of a plain pass, what a draft of one token loses at least, be it as likely as it may."""

_REST = 8
"""While nothing is drafted, all of this is done in one of so many rounds: it takes ten microseconds
of the 300 that a pass of nano takes. Not where trials are that frequent."""

_RECHECK = 256
"""Rounds between two checks of what was not tried lately, each of two rounds at most.

While drafting these are plain: a drafter that has come to cost speed would not be found out
otherwise. While nothing is drafted they have short drafts: passes may have become cheaper, as when
the machine is idle again."""

_FIRST_CHECK = 6
"""Rounds after which a batch that drafts without having been measured without is; most sizes of a
batch that grows last for less."""

_CHECKS = 2
"""Rounds of a check, as the first pays for the change; where none is felt, one draft is enough."""

_FELT = 0.05
"""Changes of length that take less than this part of a plain pass are taken to be free: that much
is seen where there is nothing but noise."""


class Rounds:
    """The rounds of one batch size.

    Args:
        answers: decoded together.
        rows: what passes took, for other sizes too.
        near: what was measured for another size, to begin with.
    """

    def __init__(
        self, answers: int = 1, rows: Rows | None = None, near: Costs | None = None
    ) -> None:
        self.answers = answers
        self.costs = Costs(LONGEST_COPY, answers, rows, near)
        self.curve: list[float] = []
        """Seconds of a pass, by drafts of each answer; empty until it was measured."""
        self.forced = -1
        """The length that every draft of the running round must have; -1: as it pays."""
        self.looking = False
        """Whether the running round takes a draft step only to see."""
        self._tokens = self._seconds = 0.0  # decayed; their ratio is the rate
        warm_up = _WARM_UP if answers == 1 else _WARM_UP_BESIDE
        self._warm_up = [n for n in warm_up if not self.costs.elsewhere(n)]
        self._done = self._idle = self._uncopied = self._unjudged = 0
        self._trial_s = inf  # that a draft of one token is expected to lose
        self._unsolved_s = 0.0  # since thresholds were solved
        self._solved: dict[Learned, Thresholds] = {}
        if not self._warm_up:
            self.curve = self.costs.curve()

    @property
    def rate(self) -> float:
        """Tokens per second that time is worth to one answer.

        What was achieved lately, but at least what passes without drafts would bring: a rule that
        does worse than those would price time too low, and go on doing worse.
        """
        achieved = self._tokens / self._seconds if self._seconds else 0.0
        return max(achieved, 1.0 / self.curve[0]) if self.curve else achieved

    @property
    def plain_tokens_per_s(self) -> float:
        """Passes without a draft per second of verification; 0 before one was made."""
        return 1.0 / self.costs.pass_s[0] if self.costs.pass_s[0] else 0.0

    def begin(self) -> None:
        """A new round: warm up, check, have a look, or leave it to the thresholds."""
        self.forced = -1
        self.looking = False
        if self._warm_up:
            self.forced = self._warm_up[0]
        elif self._checks():
            check = self._done // _RECHECK
            self.forced = 0 if self._drafting() else 1 + check % 3
        elif not self._drafting():
            if self._unjudged * _LOOK_SHARE * self.curve[0] > self._trial_s:
                self.forced = 1
            self.looking = self._idle * _LOOK_SHARE * self.curve[0] > self.costs.step_s

    def _checks(self) -> bool:
        """Whether it is time for what is not done at present."""
        if self._done < _RECHECK:
            return self._drafting() and self._done >= _FIRST_CHECK and not self.costs.is_sure(0)
        return self._done % _RECHECK < (_CHECKS if self._drafting() or self.change_s else 1)

    def thresholds(self, learned: Learned) -> Thresholds:
        """When drafting pays for who knows this."""
        known = self._solved.get(learned)
        if known is None:
            known = self._solve(learned) if self.curve else ALWAYS
        return known

    @property
    def change_s(self) -> float:
        """Seconds that a pass takes longer after one of another number of rows; 0 if not felt."""
        felt = bool(self.curve) and self.costs.change_s > _FELT * self.curve[0]
        return self.costs.change_s if felt else 0.0

    def settle(
        self,
        drafted: float,
        steps: int,
        tokens: float,
        draft_s: float,
        verify_s: float,
        *,
        same: bool,
    ) -> None:
        """Learn from a finished round.

        Args:
            drafted: tokens that were verified for each answer, copies included; a mean.
            steps: draft steps, each of them for all answers that went on.
            tokens: that came of it for each answer; a mean.
            draft_s: seconds that drafting took.
            verify_s: seconds that the pass and its judgement took.
            same: whether the pass had as many rows as the one before.
        """
        costs, length = self.costs, min(ceil(drafted), LONGEST_COPY)
        new = costs.is_new(length)
        steady_s = costs.steady(verify_s, same=same)
        if drafted or same or costs.knows_change:
            costs.verified(length, self._had_all(steady_s, drafted, length), same=same)
        # After rounds without, a step finds the caches cold; most steps do not.
        if steps and not (self._idle and costs.knows_step):
            costs.drafted(steps, draft_s)
        self._idle = 0 if steps else self._idle + 1
        self._uncopied = 0 if drafted and not steps else self._uncopied + 1
        self._unjudged = 0 if drafted and steps else self._unjudged + 1
        self._tokens = self._tokens * _REMEMBER + tokens
        self._seconds = self._seconds * _REMEMBER + draft_s + verify_s
        self._done += 1
        self._unsolved_s += draft_s + verify_s
        if self._warm_up:
            del self._warm_up[0]
            if not self._warm_up:
                self.curve = self.costs.curve()
        elif new or (self._is_due() and self._unsolved_s * _SOLVE_SHARE > _SOLVE_S):
            self._solve_all()

    @property
    def rest(self) -> int:
        """How many rounds can follow without a draft and without asking, after a plain one."""
        if not self.curve or self._drafting() or self._done < _RECHECK:
            return 0
        if self._trial_s < 2 * _REST * _LOOK_SHARE * self.curve[0]:
            return 0
        return -self._done % _REST

    def rested(self, rounds: int, seconds: float) -> None:
        """Learn from plain rounds of an answer, all at once.

        Args:
            rounds: how many.
            seconds: that they took together.
        """
        self.costs.verified(0, seconds / rounds, passes=rounds)
        self._idle += rounds
        self._uncopied += rounds
        self._unjudged += rounds
        kept = _REMEMBER**rounds
        mean = (1.0 - kept) / (1.0 - _REMEMBER)
        self._tokens = self._tokens * kept + mean
        self._seconds = self._seconds * kept + mean * seconds / rounds
        self._done += rounds
        self._unsolved_s += seconds
        if self._is_due() and self._unsolved_s * _SOLVE_SHARE > _SOLVE_S:
            self._solve_all()

    def _had_all(self, verify_s: float, drafted: float, length: int) -> float:
        """What a pass would have taken if all answers had as many drafts as some had.

        An answer that drafts while others do not pays for a block of rows alone. What the pass took
        beyond one with a draft less for all is put down to those who drafted: so a rule by which
        few of them draft shows what it really costs, which is more than a share of what it costs
        when all do.
        """
        missing = length - drafted
        if missing <= 0 or not self.curve:
            return verify_s
        below = self.curve[length - 1]
        return max(below, below + (verify_s - below) / (1 - missing))

    def _drafting(self) -> bool:
        return any(known.go_on[0] < NEVER for known in self._solved.values())

    def _solve_all(self) -> None:
        self.curve = self.costs.curve()
        for learned in self._solved:
            if self._idle:
                learned.chances.paused(min(_EVERY, self._idle))
            if self._uncopied:
                learned.copies.paused(min(_EVERY, self._uncopied))
            self._solve(learned)
        self._unsolved_s = 0.0
        best = max((learned.chances.mean for learned in self._solved), default=0.0)
        costs, (plain, one) = self.costs, self.curve[:2]
        loss = costs.step_s + one - (1.0 + best) * plain + 2.0 * self.change_s
        self._trial_s = max(_LEAST_TRIAL * plain, loss)

    def _is_due(self) -> bool:
        return self._done % _EVERY == 0 or self._done in _EARLY or self.looking

    def _solve(self, learned: Learned) -> Thresholds:
        chances = learned.chances
        before = self._solved.get(learned)
        if before is None or before.go_on[0] < NEVER:
            chances.review()
        solved = self._solved[learned] = thresholds(
            self.curve[: MAX_AUTO_DRAFT + 1],
            self.costs.step_s,
            self.rate,
            chances.accepted,
            chances.share,
            self._policies(),
        )
        return solved

    def _policies(self) -> Policies:
        if not self.change_s:
            return FREE
        return (alone if self.answers == 1 else beside)(self.change_s, MAX_AUTO_DRAFT)
