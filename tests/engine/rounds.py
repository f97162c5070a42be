"""Rounds of pacing without a model: tests determine acceptance and costs."""

from collections.abc import Sequence

from localmtp.engine.pacing import Calibration, CostModel, DraftPolicy, Outcome, RoundPlan


class SingleAnswer:
    """One answer, decoded alone.

    Args:
        policy: automatic by default.
        costs: of a new machine by default.
    """

    def __init__(self, policy: DraftPolicy | None = None, costs: CostModel | None = None) -> None:
        self.costs = costs or CostModel()
        self.calibration = Calibration()
        self.policy = policy or self.costs.policy(self.calibration)
        self._plan = RoundPlan()
        self._drafted = self._steps = 0

    @property
    def state(self) -> str:
        return self.policy.state

    def begin(self, limit: int = 8) -> None:
        self._plan = self.costs.begin_round(1)
        self.policy.begin_round(limit, self._plan)
        self._drafted = self._steps = 0

    def copy(self, match: int, available: int) -> int:
        self._drafted = self.policy.copy_length(match, available)
        return self._drafted

    def draft(self, confidences: Sequence[float]) -> tuple[int, int]:
        """Drafts tokens of these confidences; returns tokens to verify, and steps taken."""
        while self.policy.should_draft():
            self._steps += 1
            if not self.policy.should_verify(confidences[self._steps - 1]):
                break
            self._drafted += 1
        return self._drafted, self._steps

    def end(self, accepted: int, draft_s: float, verify_s: float) -> None:
        self.policy.end_round(accepted, draft_s, verify_s)
        outcome = Outcome(self.policy, self._drafted, self._steps, accepted + 1)
        drafted = self._drafted > 0 or self._steps > 0
        self.costs.end_round(self._plan, [outcome], draft_s, verify_s, drafted=drafted)
