"""A learning rate that follows the wall clock, so that training ends in time on any machine."""

import math
import time

WARM_UP_STEPS = 30
FINAL = 0.02
"""The share of the learning rate that is left at the end."""


class Clock:
    """Counts from its making to a number of minutes."""

    def __init__(self, minutes: float) -> None:
        self._started = time.monotonic()
        self._length = 60 * minutes

    def share(self) -> float:
        """The share of the time that has passed; above 1 when it is over."""
        return (time.monotonic() - self._started) / self._length

    def rate(self, step: int) -> float:
        """Warm-up by steps, then a cosine by time, as a factor of the learning rate."""
        cosine = (1 + math.cos(math.pi * min(1.0, self.share()))) / 2
        return min(1.0, (step + 1) / WARM_UP_STEPS) * (FINAL + (1 - FINAL) * cosine)
