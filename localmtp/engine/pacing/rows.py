"""What passes take by their rows, whoever the rows belong to."""

from __future__ import annotations

from dataclasses import dataclass

_LEARN = 0.2
"""Least weight of a new sample: a guess for others, where what was seen last says most."""

_OLD = 4096
"""Passes after which a sample says nothing of passes of now."""

_NEAR = 6
"""Rows differ by at most this part of them: a pass of one more or less is much the same."""


@dataclass(slots=True)
class _Seen:
    seconds: float = 0.0
    samples: int = 0
    latest: int = 0  # pass in which so many rows were seen last


class Rows:
    """Seconds of a pass by its number of rows, from batches of all sizes.

    Four answers with three drafts each make as many rows as sixteen without any: a batch of a size
    that was never seen begins with what others have measured, and with few trials of its own.
    """

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._passes = 0

    def saw(self, rows: int, seconds: float) -> None:
        """Learn from a pass."""
        self._passes += 1
        seen = self._seen.setdefault(rows, _Seen())
        seen.samples += 1
        seen.latest = self._passes
        seen.seconds += max(_LEARN, 1 / seen.samples) * (seconds - seen.seconds)

    def near(self, rows: int) -> tuple[float, int]:
        """Seconds of a pass of about so many rows, and from how many it is known; 0 from none."""
        total, samples, growth = 0.0, 0, self.growth()
        for n, seen in self._known().items():
            if abs(n - rows) * _NEAR <= rows:
                total += seen.samples * (seen.seconds + growth * (rows - n))
                samples += seen.samples
        return (total / samples if samples else 0.0), samples

    def growth(self) -> float:
        """Seconds that a row adds, from the smallest pass to the largest; 0 if not known."""
        known = self._known()
        if len(known) < 2:
            return 0.0
        least, most = min(known), max(known)
        return (known[most].seconds - known[least].seconds) / (most - least)

    def _known(self) -> dict[int, _Seen]:
        recent = self._passes - _OLD
        return {rows: seen for rows, seen in self._seen.items() if seen.latest >= recent}
