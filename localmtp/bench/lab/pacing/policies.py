"""Other draft policies, to compare automatic pacing with."""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.pacing import FixedPolicy, RoundPlan

_LEARN = 0.05
"""Weight of a new observation in the moving averages of acceptance by position."""

_PROBE = 20
"""Rounds without a draft before another attempt."""


class Threshold:
    """Drafts until the product of the drafter's confidences falls below a threshold.

    Args:
        least: the threshold.
        longest: maximum draft length.
    """

    automatic = False
    state = "on"

    def __init__(self, least: float, longest: int) -> None:
        self._least = least
        self._longest = longest
        self._left = 0
        self._reach = 1.0

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Begin a round."""
        self._left = min(self._longest, limit)
        self._reach = 1.0

    def copy_length(self, match: int, available: int) -> int:
        """Return 0: nothing is copied."""
        return 0

    def should_draft(self) -> bool:
        """Return whether the draft may grow."""
        return self._left > 0

    def should_verify(self, confidence: float) -> bool:
        """Return whether the product of confidences is above the threshold."""
        self._reach *= confidence
        self._left = self._left - 1 if self._reach >= self._least else 0
        return self._reach >= self._least

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Do nothing: the threshold is fixed."""


class PerRound(FixedPolicy):
    """Chooses one length per round, the best for the mean acceptance at each position.

    The costs are known. This is the rule of Ollama's MLX runner.

    Args:
        pass_s: seconds of a verification pass, by draft length.
        step_s: seconds of a draft step.
    """

    def __init__(self, pass_s: Sequence[float], step_s: float) -> None:
        super().__init__(0)
        self.state = "on"
        self._pass_s = pass_s
        self._step_s = step_s
        self._accepted = [0.8] * (len(pass_s) - 1)
        self._idle = 0

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Choose the length of the round."""
        best, length, reach, tokens = 1 / self._pass_s[0], 0, 1.0, 1.0
        for n, accepted in enumerate(self._accepted[:limit], 1):
            reach *= accepted
            tokens += reach
            rate = tokens / (self._pass_s[n] + n * self._step_s)
            if rate > best:
                best, length = rate, n
        self._idle = 0 if length else self._idle + 1
        if self._idle and self._idle % _PROBE == 0:
            length = min(1, limit)
        self._length = length
        super().begin_round(limit, plan)

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Update the acceptance by position."""
        for i in range(min(accepted + 1, self._length)):
            self._accepted[i] += _LEARN * ((i < accepted) - self._accepted[i])
