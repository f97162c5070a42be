"""Runs Python's full garbage collections only while the chat is idle.

A full collection visits every object. In a long conversation these are millions of line segments,
none of them garbage, and the pause is longer than any other step of the event loop.
"""

from __future__ import annotations

import gc
from time import monotonic

IDLE_S = 20.0
"""Time without a key, an answer or a model being loaded before a pause goes unnoticed."""

MIN_INTERVAL_S = 300.0
"""Time between two full collections."""

_NEVER = 1_000_000_000


class IdleCollector:
    """Controls full collections from `start` to `stop`; partial ones run as usual."""

    def __init__(self) -> None:
        self._thresholds = gc.get_threshold()
        self._active_at = self._collected_at = monotonic()

    def start(self) -> None:
        """Turns automatic full collections off and exempts all existing objects."""
        gc.freeze()
        young, middle, _ = self._thresholds
        gc.set_threshold(young, middle, _NEVER)

    def stop(self) -> None:
        """Restores the former settings."""
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def mark_active(self) -> None:
        """Records activity on the screen."""
        self._active_at = monotonic()

    def collect_if_idle(self) -> None:
        """Runs a full collection after `IDLE_S` without activity, every `MIN_INTERVAL_S`."""
        now = monotonic()
        if now - self._active_at > IDLE_S and now - self._collected_at > MIN_INTERVAL_S:
            gc.collect()
            self._collected_at = monotonic()
