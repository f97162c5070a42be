"""Automatic draft length: drafts as long as the expected tokens are worth their time."""

from __future__ import annotations

from localmtp.engine.pacing.calibration import Calibration
from localmtp.engine.pacing.plan import MAX_COPY, RoundPlan
from localmtp.engine.pacing.stopping import ALWAYS, NEVER
from localmtp.engine.stats import PAUSED
from localmtp.limits import MAX_AUTO_DRAFT


class AutoPolicy:
    """Paces one answer.

    Two comparisons per draft step; the thresholds are solved every few rounds (see `stopping`).

    Args:
        calibration: the drafter's; shared by answers that sample alike.
        plan: plan of a single answer, used until the first round.
    """

    automatic = True

    def __init__(self, calibration: Calibration, plan: RoundPlan) -> None:
        self._calibration = calibration
        self._plan = plan
        self._thresholds = ALWAYS
        # Of the current round:
        self._limit = self._draft_limit = self._length = 0
        self._reach = 1.0  # probability that all drafts so far are accepted
        self._levels: list[int] = []  # confidence level of each step
        self._copied: list[int] = []  # match level of each copied token
        self._forced = -1

    @property
    def state(self) -> str:
        """`on`, or `off: REASON`."""
        plan, calibration = self._plan, self._calibration
        if calibration.copies_only:
            return "on"
        if plan.thresholds(calibration).draft[0] < NEVER:
            return "on"
        plain = 1.0 / plan.curve[0]
        drafted = (1.0 + calibration.drafts.mean) / (plan.curve[1] + plan.costs.step_s)
        slower = round(100 * (1.0 - drafted / plain))
        if slower < 1:
            return f"off: {PAUSED}not be faster here"
        return f"off: {PAUSED}be {slower} % slower here"

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """See `DraftPolicy.begin_round`."""
        self._plan = plan
        self._limit = limit
        self._copied = []
        if plan.resting:
            self._draft_limit, self._forced = 0, -1
            return
        self._thresholds = plan.thresholds(self._calibration)
        self._draft_limit = min(limit, MAX_AUTO_DRAFT)
        self._length = 0
        self._reach = 1.0
        self._levels = []
        self._forced = min(plan.forced, self._draft_limit)
        if self._calibration.copies_only:
            self._draft_limit, self._forced = 0, -1 if plan.curve else 0

    def copy_length(self, match: int, available: int) -> int:
        """Returns the most valuable length, if it is worth more than drafting."""
        if self._forced >= 0:
            return 0
        copies, plan = self._calibration.copies, self._plan
        level = copies.level(match)
        accepted = copies.accepted[level]
        curve, rate, usual = plan.curve, plan.rate, self._thresholds.usual
        # A change of length costs all answers time, and probably only this one copies.
        away = 2.0 * plan.change_s * plan.answers if usual >= 0 else 0.0
        most, length, worth, reach = self._thresholds.worth, 0, rate * curve[0], 1.0
        for n in range(1, min(available, self._limit, MAX_COPY) + 1):
            reach *= accepted
            worth += reach
            net = worth - rate * (curve[n] + (0.0 if n == usual else away))
            if net > most:
                most, length = net, n
        self._copied = [level] * length
        return length

    def should_draft(self) -> bool:
        """Whether the drafts so far are likely enough to pay for another step."""
        at = self._length
        if at >= self._draft_limit:
            return False
        if self._forced >= 0:
            return at < self._forced
        if self._plan.probing and not self._levels:
            return True
        return self._reach >= self._thresholds.draft[at]

    def should_verify(self, confidence: float) -> bool:
        """Whether the token pays for a row of the pass; its step is already paid."""
        drafts = self._calibration.drafts
        level = drafts.level(confidence)
        self._levels.append(level)
        reach = self._reach * drafts.accepted[level]
        if self._forced < 0 and reach < self._thresholds.verify[self._length]:
            return False
        self._reach = reach
        self._length += 1
        return True

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learns which tokens were accepted."""
        calibration, levels = self._calibration, self._levels
        if self._copied:
            calibration.copies.record(self._copied, accepted)
        if levels and not self._plan.resting:
            calibration.drafts.record_steps(levels, probe=self._plan.probing)
            calibration.drafts.record(levels[: self._length], accepted)
