"""Decides how often a growing answer is drawn."""

from __future__ import annotations

from time import thread_time

DRAW_EVERY_S = 1 / 10
"""Smooth to read; drawing more often is not visible and takes time from the model."""

MAX_INTERVAL_S = 0.5

MAX_CPU_SHARE = 0.05
"""Share of a core that drawing may use."""


class DrawPacer:
    """Lengthens the interval between draws until drawing uses at most `MAX_CPU_SHARE`."""

    def __init__(self) -> None:
        self._cpu_s = thread_time()

    def next_interval(self) -> float:
        """Returns the time until the next draw in seconds; called in the drawing thread."""
        cpu_s = thread_time()
        used_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        return min(MAX_INTERVAL_S, max(DRAW_EVERY_S, used_s / MAX_CPU_SHARE))
