"""When Python looks for garbage: not while something moves on the screen.

A full collection looks at every object that there is. In a long conversation these are millions of
pieces of lines, none of them garbage, and it takes longer than anything else that the chat does.
"""

from __future__ import annotations

import gc
from time import monotonic

AFTER_S = 20.0
"""Without a key, an answer or a model on its way: nobody will notice a pause now."""

SELDOM_S = 300.0

_NEVER = 1_000_000_000


class Garbage:
    """Full collections of this process, from `tame` to `release`; small ones go on as ever."""

    def __init__(self) -> None:
        self._thresholds = gc.get_threshold()
        self._moved = self._collected = monotonic()

    def tame(self) -> None:
        """No full collection but by `idle`; and none at all of what is loaded already."""
        gc.freeze()
        young, middle, _ = self._thresholds
        gc.set_threshold(young, middle, _NEVER)

    def release(self) -> None:
        """As it was."""
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def moved(self) -> None:
        """Something happens on the screen."""
        self._moved = monotonic()

    def idle(self) -> None:
        """Nothing happens now: collects if that has been so for a while, and long not been done."""
        now = monotonic()
        if now - self._moved > AFTER_S and now - self._collected > SELDOM_S:
            gc.collect()
            self._collected = monotonic()
