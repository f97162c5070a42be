"""A learning rate scheduled by wall-clock time, so that training ends in time on any machine."""

import math
import time

WARM_UP_STEPS = 30
FINAL = 0.02
"""Factor of the learning rate at the end."""


class Clock:
    """Measures elapsed time as a fraction of a training time, from construction on.

    Args:
        minutes: training time.
    """

    def __init__(self, minutes: float) -> None:
        self._started = time.monotonic()
        self._length = 60 * minutes

    def share(self) -> float:
        """Returns the fraction of the training time that has elapsed; more than 1 afterwards."""
        return (time.monotonic() - self._started) / self._length

    def rate(self, step: int) -> float:
        """Returns the factor of the learning rate: a warm-up by steps, then a cosine by time."""
        cosine = (1 + math.cos(math.pi * min(1.0, self.share()))) / 2
        return min(1.0, (step + 1) / WARM_UP_STEPS) * (FINAL + (1 - FINAL) * cosine)
