"""Decode speed over the last seconds."""

from __future__ import annotations

from collections import deque

from localmtp.engine.stats import Stats

WINDOW_S = 2.0
"""Long enough to smooth the bursts of accepted drafts, short enough to be current."""

HISTORY_SAMPLES = 240
"""Samples in the sparkline: a minute at 4 Hz."""


class RecentSpeed:
    """Computes tokens per second over the last `WINDOW_S` of decoding, by the engine's clock."""

    def __init__(self) -> None:
        self.history: deque[float] = deque(maxlen=HISTORY_SAMPLES)
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, stats: Stats) -> float:
        """Adds a sample and returns the current speed in tokens/s; 0 before the second token."""
        if self._samples and stats.completion_tokens < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((stats.decode_s, stats.completion_tokens))
        while len(self._samples) > 2 and stats.decode_s - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()
        (since, tokens) = self._samples[0]
        if stats.decode_s <= since:
            return stats.decode_tokens_per_s
        speed = (stats.completion_tokens - tokens) / (stats.decode_s - since)
        self.history.append(speed)
        return speed
