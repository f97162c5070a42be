"""Seconds of a pass by its number of rows, regardless of the answers they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LEARN = 0.2
"""Smallest weight of a new sample: the last few count most."""

_OLD = 4096
"""Passes after which a sample is ignored."""

_NEAR = 10
"""Numbers of rows are near if they differ by at most a tenth. The cost of CPU passes has steps:
with few rows, one more can cost half a pass."""


@dataclass(slots=True)
class _Sample:
    seconds: float = 0.0
    samples: int = 0
    latest: int = 0  # last pass with this number of rows


class RowCosts:
    """Seconds of a pass by its number of rows, from batches of all sizes.

    Four answers with three drafts each have as many rows as sixteen without: a new batch size
    starts from the measurements of others and needs few trials.
    """

    def __init__(self) -> None:
        self._seen: dict[int, _Sample] = {}
        self._passes = 0

    def record(self, rows: int, seconds: float) -> None:
        """Learns from a pass."""
        self._passes += 1
        seen = self._seen.setdefault(rows, _Sample())
        seen.samples += 1
        seen.latest = self._passes
        seen.seconds += max(_LEARN, 1 / seen.samples) * (seconds - seen.seconds)

    def near(self, rows: int) -> tuple[float, int]:
        """Seconds of passes with about this number of rows, and their number; 0 and 0 if none."""
        return self.near_each((rows,))[0]

    def near_each(self, counts: Iterable[int]) -> list[tuple[float, int]]:
        """See `near`, for several numbers of rows."""
        known = self._known()
        growth, found = _growth(known), []
        for rows in counts:
            total, samples = 0.0, 0
            for n, seen in known.items():
                if abs(n - rows) * _NEAR <= rows:
                    total += seen.samples * (seen.seconds + growth * (rows - n))
                    samples += seen.samples
            found.append((total / samples if samples else 0.0, samples))
        return found

    def growth(self) -> float:
        """Mean seconds per additional row, from the smallest to the largest pass; 0 if unknown."""
        return _growth(self._known())

    def _known(self) -> dict[int, _Sample]:
        recent = self._passes - _OLD
        return {rows: seen for rows, seen in self._seen.items() if seen.latest >= recent}


def _growth(known: Mapping[int, _Sample]) -> float:
    if len(known) < 2:
        return 0.0
    least, most = min(known), max(known)
    return (known[most].seconds - known[least].seconds) / (most - least)
