"""Seconds of a pass by its number of rows, whichever answers they belong to."""

from __future__ import annotations

from dataclasses import dataclass

_LEARN = 0.2
"""Smallest weight of a new sample: the last few say most."""

_OLD = 4096
"""Passes after which a sample is ignored."""

_NEAR = 10
"""Numbers of rows count as near if they differ by at most a tenth. CPU passes have stairs: with few
rows, one more can cost half a pass."""


@dataclass(slots=True)
class _Sample:
    seconds: float = 0.0
    samples: int = 0
    latest: int = 0  # pass in which so many rows were seen last


class RowCosts:
    """Seconds of a pass by its number of rows, from batches of all sizes.

    Four answers with three drafts each make as many rows as sixteen without: a new batch size
    starts from what others measured, and needs few trials of its own.
    """

    def __init__(self) -> None:
        self._seen: dict[int, _Sample] = {}
        self._passes = 0

    def saw(self, rows: int, seconds: float) -> None:
        """Learns from a pass."""
        self._passes += 1
        seen = self._seen.setdefault(rows, _Sample())
        seen.samples += 1
        seen.latest = self._passes
        seen.seconds += max(_LEARN, 1 / seen.samples) * (seconds - seen.seconds)

    def near(self, rows: int) -> tuple[float, int]:
        """Seconds of a pass of about this many rows, and the number of samples; 0 and 0 if none."""
        total, samples, growth = 0.0, 0, self.growth()
        for n, seen in self._known().items():
            if abs(n - rows) * _NEAR <= rows:
                total += seen.samples * (seen.seconds + growth * (rows - n))
                samples += seen.samples
        return (total / samples if samples else 0.0), samples

    def growth(self) -> float:
        """Seconds that a row adds, from the smallest pass to the largest; 0 if unknown."""
        known = self._known()
        if len(known) < 2:
            return 0.0
        least, most = min(known), max(known)
        return (known[most].seconds - known[least].seconds) / (most - least)

    def _known(self) -> dict[int, _Sample]:
        recent = self._passes - _OLD
        return {rows: seen for rows, seen in self._seen.items() if seen.latest >= recent}
