"""Seconds of draft steps and of verification passes on this machine, measured while decoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from localmtp.engine.pacing.row_costs import RowCosts

_LEARN = 0.1
"""Weight of a new sample: about the last ten count, since machines warm up and their load
changes."""

_CLAMP = 0.25
"""A sample moves a cost by at most a quarter of it: one stall must not make a length look so
expensive that it is never tried again."""

_STALE = 128
"""Passes after which a cost is stale: the next sample replaces most of it."""

_EXPIRED = 4096
"""Passes after which a cost no longer excludes a length."""

_LEARN_STALE = 0.8
"""Weight of the sample that replaces a stale cost."""

_FIRST_GROWTH = 0.15
"""Prior cost of an additional row, relative to a pass of one row: between a GPU (a few percent) and
a CPU (most of a pass)."""

_ENOUGH = 2
"""Samples after which the cost of a length is trusted: the first may include a stall, and a length
that looks too expensive is not tried again."""

_ENOUGH_ELSEWHERE = 4
"""Passes of about as many rows that replace one of exactly this number."""

_LEAST_GROWTH = 0.02
"""Lower bound of the cost of a row: two noisy samples can suggest a slope of 0."""


class PassCosts:
    """Seconds of a draft step, and of a verification pass by draft length.

    Args:
        longest: longest draft, in tokens.
        answers: number of answers decoded together, with drafts of one length.
        rows: costs by rows, shared with other numbers of answers.
        near: costs of another number of answers, used until own ones are measured.
    """

    def __init__(
        self,
        longest: int,
        answers: int = 1,
        rows: RowCosts | None = None,
        near: PassCosts | None = None,
    ) -> None:
        self.step_s: float = near.step_s if near else 0.0
        """Seconds of one draft step; 0 until one was taken, here or in `near`."""
        self.change_s: float = near.change_s if near else 0.0
        """Additional seconds of a pass after one with another number of rows: libllama rebuilds its
        graph. Noticeable with small models and on fast devices."""
        self._changes = 0
        self._changed = 0.0  # seconds of the last pass, if its number of rows was new
        self._answers = answers
        self._rows = rows or RowCosts()
        self._stepped = False
        self.pass_s = [0.0] * (longest + 1)
        """Measured seconds by draft length; 0 if not measured."""
        self._samples = [0] * (longest + 1)
        self._steady = [False] * (longest + 1)  # measured after a pass of as many rows
        self._passes = 0
        self._latest_step = 0
        self._latest = [0] * (longest + 1)  # pass in which each length was measured last

    def drafted(self, steps: int, seconds: float) -> None:
        """Learns from `steps` draft steps that took `seconds` together."""
        sample = seconds / steps
        stale = not self._stepped or self._passes - self._latest_step > _STALE
        self._stepped = True
        self._latest_step = self._passes
        self.step_s = _renewed(self.step_s, sample) if stale else _blend(self.step_s, sample)

    def steady(self, seconds: float, *, same: bool) -> float:
        """Estimates a pass without the cost of a changed number of rows, and learns that cost.

        Args:
            seconds: of the pass.
            same: whether the previous pass had the same number of rows.

        Returns:
            Seconds of the pass after one with the same number of rows.
        """
        changed, self._changed = self._changed, 0.0 if same else seconds
        if not same:
            return max(seconds - self.change_s, seconds / 2)
        if changed:
            self._changes += 1
            weight = max(_LEARN, 1 / self._changes)
            self.change_s += weight * (max(0.0, min(changed - seconds, seconds)) - self.change_s)
        return seconds

    def expire(self) -> None:
        """Marks all costs as stale: the next sample replaces most of each."""
        self._passes += _STALE + 1

    def dump(self) -> dict[str, Any]:
        """JSON-ready costs for the next run: seconds, 0 where not measured."""
        return {"passes": self.pass_s, "step": self.step_s, "change": self.change_s}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restores what `dump` returned, as stale costs.

        Their ratios are trusted. The first plain pass scales them to the machine's current speed.

        Raises:
            KeyError, TypeError, ValueError: `saved` is not from `dump`.
        """
        passes = [float(seconds) for seconds in saved["passes"]]
        if len(passes) != len(self.pass_s) or not passes[0]:
            raise ValueError("no cost of a pass by draft length")
        self.pass_s, self.step_s = passes, float(saved["step"])
        self.change_s = float(saved["change"])
        self._samples = [_ENOUGH if seconds else 0 for seconds in passes]
        self._stepped = self.step_s > 0
        self.expire()

    @property
    def knows_change(self) -> bool:
        """Whether the cost of a changed number of rows is known."""
        return self._changes > 0 or self.change_s > 0

    def verified(self, length: int, seconds: float, *, same: bool = True, passes: int = 1) -> None:
        """Learns from consecutive passes.

        Args:
            length: draft tokens that each verified.
            seconds: of one pass; see `steady`.
            same: whether the previous pass had the same number of rows.
            passes: number of passes.
        """
        before = self.pass_s[length]
        self._passes += passes
        stale = self._passes - self._latest[length] > _STALE
        self._latest[length] = self._passes
        after = _renewed(before, seconds) if stale else before
        for _ in range(0 if stale else passes):
            after = _blend(after, seconds)
        if same and not self._steady[length]:
            after = seconds
            self._steady[length] = True
        self.pass_s[length] = after
        if length == 0 and before:
            # The machine's load affects all lengths, including those that are not tried.
            self.pass_s[1:] = [known * after / before for known in self.pass_s[1:]]
            self.step_s *= after / before
        self._samples[length] += passes

    @property
    def knows_step(self) -> bool:
        """Whether a draft step was measured for this number of answers."""
        return self._stepped

    def is_new(self, length: int) -> bool:
        """Whether the cost of a length is not trusted yet."""
        return self._samples[length] < _ENOUGH

    def elsewhere(self, length: int) -> float:
        """Seconds of passes with the same number of rows but another number of answers; 0 if none.

        Scaled to the machine's current speed.
        """
        return self._elsewhere((length,))[0]

    def _elsewhere(self, lengths: Iterable[int]) -> list[float]:
        answers, measured = self._answers, self.pass_s[0]
        rows = (answers, *(answers * (1 + length) for length in lengths))
        (plain, _), *near = self._rows.near_each(rows)
        scale = measured / plain if measured and plain else 1.0
        return [seconds * scale for seconds, _ in near]

    def is_sure(self, length: int) -> bool:
        """Whether enough passes with this number of rows were measured, for any batch size."""
        _, samples = self._rows.near(self._answers * (1 + length))
        return self._samples[length] > 0 or samples >= _ENOUGH_ELSEWHERE

    def curve(self) -> list[float]:
        """Seconds of a pass by draft length, estimated where not measured.

        A length without enough samples is expected to cost as much as the next shorter one plus the
        smallest growth seen, so that a length that may pay is tried; but no more than a straight
        line to the next longer one, nor than decoding its rows one by one. The last also applies
        while nothing of at least half its rows is known: trials of lengths that are too long are
        expensive.

        Requires one measured length, for any number of answers.
        """
        elsewhere = self._elsewhere(range(len(self.pass_s)))
        recent = self._passes - _EXPIRED
        known = [
            n
            for n, (count, latest) in enumerate(zip(self._samples, self._latest, strict=True))
            if count >= _ENOUGH and latest >= recent
        ]
        if len(known) < _ENOUGH:  # warming up
            known = [n for n, seconds in enumerate(self.pass_s) if seconds or elsewhere[n]]
        at = [self.pass_s[n] or elsewhere[n] for n in known]
        plain = at[0]
        slopes = [(b - a) / (n - m) for (m, a), (n, b) in pairwise(zip(known, at, strict=True))]
        growth = min(slopes) if slopes else self._rows.growth() * self._answers
        growth = max(growth, _LEAST_GROWTH * plain) if growth else _FIRST_GROWTH * plain
        costs: list[float] = []
        below = 0
        for n, seconds in enumerate(self.pass_s):
            if n in known:
                below = known.index(n)
                costs.append(at[below])
                continue
            slope = min([growth, *slopes[below : below + 1]])
            expected = elsewhere[n] or at[below] + slope * max(0, n - known[below])
            if n > 2 * known[-1] + 1 and not elsewhere[n]:
                expected = plain * (n + 1)
            bounds = (expected, plain * (n + 1), seconds or expected)
            costs.append(min(bounds))
        return costs


def _renewed(estimate: float, sample: float) -> float:
    return estimate + _LEARN_STALE * (sample - estimate) if estimate else sample


def _blend(estimate: float, sample: float) -> float:
    if not estimate:
        return sample
    bound = _CLAMP * estimate
    return estimate + _LEARN * max(-bound, min(bound, sample - estimate))
