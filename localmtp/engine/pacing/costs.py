"""What drafting and verifying take on this machine, learned as it happens."""

from __future__ import annotations

from itertools import pairwise

_LEARN = 0.1
"""Weight of a new sample: the last ten count most, as a machine warms up or gets other work."""

_CLAMP = 0.25
"""A sample moves a cost by a quarter of it at most: one stall of the machine must not make a
length look so dear that it is never tried again."""

_FIRST_GROWTH = 0.15
"""Before it was measured: what a row adds to a pass, relative to the pass of one row. Between a
GPU (a few percent) and a CPU (most of a pass)."""

_LEAST_GROWTH = 0.02
"""No row is taken to be cheaper than this: two noisy samples can make a slope of nothing."""


class Costs:
    """Seconds of a draft step, and of a verification pass by draft length.

    Args:
        longest: the longest draft.
    """

    def __init__(self, longest: int) -> None:
        self.step_s = 0.0
        """Of one draft step; 0 until one was taken."""
        self.pass_s = [0.0] * (longest + 1)
        """Measured, by draft length; 0 where none was."""

    def drafted(self, steps: int, seconds: float) -> None:
        """Learn from `steps` draft steps that took `seconds` together."""
        self.step_s = _blend(self.step_s, seconds / steps)

    def verified(self, length: int, seconds: float) -> None:
        """Learn from the verification of `length` tokens."""
        self.pass_s[length] = _blend(self.pass_s[length], seconds)

    def curve(self) -> list[float]:
        """Seconds of a pass for every draft length, measured or not.

        On straight lines between what was measured; beyond it at the smallest growth seen, so that
        a length that may pay is tried, and then known. Never more than decoding the rows one by
        one: a first sample may have met a stall.

        Needs at least one measured length.
        """
        known = [(n, seconds) for n, seconds in enumerate(self.pass_s) if seconds]
        plain = known[0][1]
        slopes = [(b - a) / (n - m) for (m, a), (n, b) in pairwise(known)]
        growth = max(min(slopes), _LEAST_GROWTH * plain) if slopes else _FIRST_GROWTH * plain
        costs: list[float] = []
        at = 0
        for n in range(len(self.pass_s)):
            if at + 1 < len(known) and n >= known[at + 1][0]:
                at += 1
            (m, below), slope = known[at], slopes[at] if at < len(slopes) else growth
            costs.append(min(below + slope * max(0, n - m), plain * (n + 1)))
        return costs


def _blend(estimate: float, sample: float) -> float:
    if not estimate:
        return sample
    bound = _CLAMP * estimate
    return estimate + _LEARN * max(-bound, min(bound, sample - estimate))
