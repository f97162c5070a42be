"""Plans the rounds of one batch size: their costs, trials, and when drafting pays.

All answers of a batch share a pass, so a row costs what the pass grows by, and that depends on how
many rows there are already: drafts use compute that one answer leaves idle, and several answers
leave less of it. Each batch size is therefore measured separately. The answers are assumed to draft
alike: of a pass of B answers with n drafts each, an answer pays 1/B and gains 1/B of the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, inf
from typing import Any

from localmtp.engine.pacing.calibration import Calibration
from localmtp.engine.pacing.pass_costs import PassCosts
from localmtp.engine.pacing.row_costs import RowCosts
from localmtp.engine.pacing.stopping import (
    ALWAYS,
    FREE,
    NEVER,
    NO_STEPS,
    Policies,
    Problem,
    Thresholds,
    batched,
    ruled_out,
    single,
    thresholds,
)
from localmtp.limits import MAX_AUTO_DRAFT

MAX_COPY = 16
"""Longest copy from the context: repetitions are often long, and copying takes no draft steps."""

_WARM_UP = (0, 0, 3)
"""Draft lengths of the first rounds: none and several tokens are measured, and so is a change of
length, which the first of two equal ones pays for. Three, because rows may cost less in blocks."""

_WARM_UP_KNOWN = (0, 0)
"""The same with costs of an earlier run: one pass that pays for a change of length, and one that
shows the machine's speed now."""

_WARM_UP_BATCH = (0, 0, 1)
"""The same for several answers: if they leave no idle compute, a draft for all of them costs as
much as a pass."""

_DECAY = 0.975
"""Decay per round of the sums behind the rate: about the last forty rounds count."""

_SOLVE_EVERY = 32
"""Rounds between two solutions, after the first few: estimates change slowly, and solving takes as
long as several rounds of all other bookkeeping."""

_SOLVE_EARLY = (6, 8, 12, 16, 24)
"""Early rounds of the first answer after which thresholds are solved too: they change most."""

_SOLVE_SHARE, _SOLVE_S = 0.005, 0.0003
"""Seconds of a solution, and the share of the time that solutions may take."""

_PROBE_SHARE = 0.005
"""Share of the time spent on probing steps while drafting is off, to detect that the text has
become predictable. The token of a probe is verified as often as the expected loss allows: the
closer drafting is to paying, the more often it is tried."""

_MIN_TRIAL = 0.02
"""Lower bound of the expected loss of a draft of one token, in plain passes."""

_REST = 8, 32
"""While drafting is off, bookkeeping runs in one of this many rounds, less often the rarer trials
are, and always if they are as frequent: it takes 30 us, and a pass of nano 400."""

_RECHECK = 256
"""Rounds between two checks.

While drafting, a check is a plain round: without it, a drafter that has become too slow is not
noticed. While drafting is off, it is a round with a short draft: passes may have become cheaper,
for example because the machine is idle again."""

_FIRST_CHECK = 6
"""Rounds after which a batch size that drafts is measured without drafts, if it was not: most sizes
of a growing batch do not last longer."""

_CHECK_ROUNDS = 2
"""Rounds of a check, because the first pays for the change; one if changes are not noticeable."""

_NOTICEABLE = 0.05
"""Share of a plain pass below which a change of rows counts as free: noise looks the same."""


class RoundPlan:
    """The rounds of one batch size.

    Args:
        answers: number of answers decoded together.
        rows: costs by rows, shared with other sizes.
        near: costs of another size, used until own ones are measured.
        saved: costs of an earlier run, from `PassCosts.dump`.
    """

    def __init__(
        self,
        answers: int = 1,
        rows: RowCosts | None = None,
        near: PassCosts | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self.answers = answers
        self.costs = PassCosts(MAX_COPY, answers, rows, near)
        self.curve: list[float] = []
        """Seconds of a pass by the draft length of each answer; empty until measured."""
        self.forced = -1
        """Draft length of this round; -1 if the thresholds decide."""
        self.probing = False
        """Whether this round takes a probing step."""
        self.resting = 0
        """Remaining rounds without drafting and without bookkeeping."""
        self._rested = 0
        self._rested_s = 0.0
        self._tokens = self._seconds = 0.0  # decayed; their ratio is the rate
        warm_up = _WARM_UP if answers == 1 else _WARM_UP_BATCH
        self._warm_up = [n for n in warm_up if not self.costs.elsewhere(n)]
        self._known = bool(saved)
        if saved:
            self.costs.load(saved)
            self._warm_up = list(_WARM_UP_KNOWN)
        self._done = 0
        # Rounds since the last draft step, draft or copy, and verified draft:
        self._idle = self._uncopied = self._unverified = 0
        self._trial_s = inf  # expected loss of a draft of one token
        self._unsolved_s = 0.0  # since thresholds were solved
        self._solved: dict[Calibration, Thresholds] = {}
        if not self._warm_up:
            self.curve = self.costs.curve()

    @property
    def rate(self) -> float:
        """Price of an answer's time in tokens per second.

        The recent rate, and at least that of passes without drafts: a slower policy would price
        time too low and stay slow.
        """
        achieved = self._tokens / self._seconds if self._seconds else 0.0
        return max(achieved, 1.0 / self.curve[0]) if self.curve else achieved

    @property
    def plain_tokens_per_s(self) -> float:
        """Passes without a draft per second of verification; 0 if not measured."""
        return 1.0 / self.costs.pass_s[0] if self.costs.pass_s[0] else 0.0

    @property
    def change_s(self) -> float:
        """Additional seconds of a pass after a change of rows; 0 if not noticeable."""
        noticeable = bool(self.curve) and self.costs.change_s > _NOTICEABLE * self.curve[0]
        return self.costs.change_s if noticeable else 0.0

    def expire(self) -> None:
        """Marks all costs as stale, for example after a change of threads."""
        self._wake()
        self.costs.expire()

    def thresholds(self, calibration: Calibration) -> Thresholds:
        """Returns the thresholds for an answer with this calibration."""
        solved = self._solved.get(calibration)
        if solved is None:
            solved = self._solve(calibration) if self.curve else ALWAYS
        return solved

    def begin(self) -> None:
        """Begins a round, which warms up, checks, probes or follows the thresholds."""
        if self.resting:
            return
        self.forced = -1
        self.probing = False
        if self._warm_up:
            self.forced = self._warm_up[0]
        elif self._checks():
            check = self._done // _RECHECK
            self.forced = 0 if self._drafting() else 1 + check % 3
        elif not self._drafting():
            if self._unverified * _PROBE_SHARE * self.curve[0] > self._trial_s:
                self.forced = 1
            self.probing = self._idle * _PROBE_SHARE * self.curve[0] > self.costs.step_s

    def rest(self, seconds: float) -> None:
        """Notes a resting round without drafts; its seconds are learned later."""
        self._rested += 1
        self._rested_s += seconds
        self.resting -= 1
        if not self.resting:
            self._wake()

    def end(
        self,
        drafted: float,
        steps: int,
        tokens: float,
        draft_s: float,
        verify_s: float,
        *,
        same: bool,
    ) -> None:
        """Learns from a round.

        Args:
            drafted: mean number of tokens verified per answer, including copied ones.
            steps: number of draft steps, each for all answers that still draft.
            tokens: mean number of tokens gained per answer.
            draft_s: seconds of drafting.
            verify_s: seconds of the pass and of acceptance.
            same: whether the previous pass had the same number of rows.
        """
        if self.resting:
            self._wake()
        costs, length = self.costs, min(ceil(drafted), MAX_COPY)
        new = costs.is_new(length)
        steady_s = costs.steady(verify_s, same=same)
        if drafted or same or costs.knows_change or not costs.pass_s[length]:
            costs.verified(length, self._as_if_all(steady_s, drafted, length), same=same)
        # The first step after rounds without drafting runs with cold caches; most steps do not.
        if steps and not (self._idle and costs.knows_step):
            costs.drafted(steps, draft_s)
        self._idle = 0 if steps else self._idle + 1
        self._uncopied = 0 if drafted and not steps else self._uncopied + 1
        self._unverified = 0 if drafted and steps else self._unverified + 1
        self._advance(1, tokens, draft_s + verify_s)
        if self._warm_up:
            self._end_warm_up_round()
        elif new or self._must_solve():
            self._solve_all()
        if same and not drafted and not steps:
            self.resting = self._rest_rounds()

    def _advance(self, rounds: int, tokens: float, seconds: float) -> None:
        """Counts consecutive rounds of the same tokens and seconds each."""
        decay = _DECAY**rounds
        weight = (1.0 - decay) / (1.0 - _DECAY)
        self._tokens = self._tokens * decay + weight * tokens
        self._seconds = self._seconds * decay + weight * seconds
        self._done += rounds
        self._unsolved_s += rounds * seconds

    def _end_warm_up_round(self) -> None:
        del self._warm_up[0]
        if not self._warm_up:
            self.curve = self.costs.curve()

    def _checks(self) -> bool:
        """Whether this round is a check."""
        if self._done < _RECHECK:
            return self._drafting() and self._done >= _FIRST_CHECK and not self.costs.is_sure(0)
        rounds = _CHECK_ROUNDS if self._drafting() or self.change_s else 1
        return self._done % _RECHECK < rounds

    def _rest_rounds(self) -> int:
        """Rounds that may follow a plain one without bookkeeping."""
        if not self._solved or self._drafting() or (self._done < _RECHECK and not self._known):
            return 0
        least, most = _REST
        between = self._trial_s / (_PROBE_SHARE * self.curve[0])
        return -self._done % (most if between > 2 * most else least) if between > 2 * least else 0

    def _wake(self) -> None:
        """Learns from all rounds of a rest."""
        rounds, seconds = self._rested, self._rested_s
        self.resting = self._rested = 0
        self._rested_s = 0.0
        if not rounds:
            return
        self.costs.verified(0, seconds / rounds, passes=rounds)
        self._idle += rounds
        self._uncopied += rounds
        self._unverified += rounds
        self._advance(rounds, 1.0, seconds / rounds)
        if self._must_solve():
            self._solve_all()

    def _as_if_all(self, verify_s: float, drafted: float, length: int) -> float:
        """Estimates the pass if all answers had drafted as many tokens as some did.

        An answer that drafts alone pays for a block of rows alone. The time beyond a pass with one
        draft less for all is attributed to the answers that drafted, so a policy with which few of
        them draft learns its real cost, which exceeds a share of the cost for all.
        """
        missing = length - drafted
        if missing <= 0 or not self.curve:
            return verify_s
        below = self.curve[length - 1]
        return max(below, below + (verify_s - below) / (1 - missing))

    def _drafting(self) -> bool:
        return any(solved.draft[0] < NEVER for solved in self._solved.values())

    def _must_solve(self) -> bool:
        due = self._done % _SOLVE_EVERY == 0 or self._done in _SOLVE_EARLY or self.probing
        return due and self._unsolved_s * _SOLVE_SHARE > _SOLVE_S

    def _solve_all(self) -> None:
        self.curve = self.costs.curve()
        for calibration in self._solved:
            if self._idle:
                calibration.drafts.paused(min(_SOLVE_EVERY, self._idle))
            if self._uncopied:
                calibration.copies.paused(min(_SOLVE_EVERY, self._uncopied))
            self._solve(calibration)
        self._unsolved_s = 0.0
        best = max((calibration.drafts.mean for calibration in self._solved), default=0.0)
        costs, (plain, one) = self.costs, self.curve[:2]
        loss = costs.step_s + one - (1.0 + best) * plain + 2.0 * self.change_s
        self._trial_s = max(_MIN_TRIAL * plain, loss)

    def _solve(self, calibration: Calibration) -> Thresholds:
        if calibration.copies_only:
            usual = 0 if self.change_s else -1
            solved = self._solved[calibration] = replace(NO_STEPS, usual=usual)
            return solved
        drafts = calibration.drafts
        before = self._solved.get(calibration)
        if before is None or before.draft[0] < NEVER:
            drafts.review()
        problem = Problem(
            self.curve[: MAX_AUTO_DRAFT + 1],
            self.costs.step_s,
            self.rate,
            drafts.accepted,
            drafts.share,
        )
        bound = ruled_out(problem, 0 if self.change_s else -1)
        solved = self._solved[calibration] = bound or thresholds(problem, self._policies())
        return solved

    def _policies(self) -> Policies:
        if not self.change_s:
            return FREE
        return (single if self.answers == 1 else batched)(self.change_s, MAX_AUTO_DRAFT)
