"""What drafting and verifying take on this machine, learned as it happens."""

from __future__ import annotations

from itertools import pairwise

from localmtp.engine.pacing.rows import Rows

_LEARN = 0.1
"""Weight of a new sample: the last ten count most, as a machine warms up or gets other work."""

_CLAMP = 0.25
"""A sample moves a cost by a quarter of it at most: one stall of the machine must not make a
length look so dear that it is never tried again."""

_OLD = 128
"""Passes after which a cost is hearsay: the next sample replaces most of it."""

_STALE = 4096
"""Passes after which a cost is not believed at all where it speaks against a length."""

_LEARN_OLD = 0.8
"""Weight of that sample."""

_FIRST_GROWTH = 0.15
"""Before it was measured: what a row adds to a pass, relative to the pass of one row. Between a
GPU (a few percent) and a CPU (most of a pass)."""

_ENOUGH = 2
"""Samples after which a length's cost is taken at its word: the first may have met a stall, and
what looks too dear is not tried again."""

_ENOUGH_ELSEWHERE = 4
"""Passes of about as many rows that do for one of this very number."""

_LEAST_GROWTH = 0.02
"""No row is taken to be cheaper than this: two noisy samples can make a slope of nothing."""


class Costs:
    """Seconds of a draft step, and of a verification pass by draft length.

    Args:
        longest: the longest draft.
        answers: decoded together, with drafts of one length each.
        rows: what passes took, for other numbers of answers too.
        near: what was measured for another number of answers, to begin with.
    """

    def __init__(
        self, longest: int, answers: int = 1, rows: Rows | None = None, near: Costs | None = None
    ) -> None:
        self.step_s: float = near.step_s if near else 0.0
        """Of one draft step; 0 until one was taken, here or elsewhere."""
        self.change_s: float = near.change_s if near else 0.0
        """That a pass takes longer when the one before had another number of rows: libllama builds
        its graph anew then. Small models feel that; so do fast devices."""
        self._changes = 0
        self._changed = 0.0  # seconds of the pass before, if its rows were new
        self._answers = answers
        self._rows = rows or Rows()
        self._stepped = False
        self.pass_s = [0.0] * (longest + 1)
        """Measured, by draft length; 0 where none was."""
        self._samples = [0] * (longest + 1)
        self._steady = [False] * (longest + 1)  # measured after a pass of as many rows
        self._passes = 0
        self._latest_step = 0
        self._latest = [0] * (longest + 1)  # pass in which each length was measured last

    def drafted(self, steps: int, seconds: float) -> None:
        """Learn from `steps` draft steps that took `seconds` together."""
        sample = seconds / steps
        old = not self._stepped or self._passes - self._latest_step > _OLD
        self._stepped = True
        self._latest_step = self._passes
        self.step_s = _renewed(self.step_s, sample) if old else _blend(self.step_s, sample)

    def steady(self, seconds: float, *, same: bool) -> float:
        """What a pass would have taken after one of as many rows; learns what a change takes.

        Args:
            seconds: that it took.
            same: whether it was after one of as many rows.
        """
        changed, self._changed = self._changed, 0.0 if same else seconds
        if not same:
            return max(seconds - self.change_s, seconds / 2)
        if changed:
            self._changes += 1
            weight = max(_LEARN, 1 / self._changes)
            self.change_s += weight * (max(0.0, min(changed - seconds, seconds)) - self.change_s)
        return seconds

    @property
    def knows_change(self) -> bool:
        """Whether a pass that is not steady says what a steady one takes."""
        return self._changes > 0 or self.change_s > 0

    def verified(self, length: int, seconds: float, *, same: bool = True, passes: int = 1) -> None:
        """Learn from passes in a row that verified `length` tokens; see `steady`."""
        before = self.pass_s[length]
        self._passes += passes
        old = self._passes - self._latest[length] > _OLD
        self._latest[length] = self._passes
        after = _renewed(before, seconds) if old else before
        for _ in range(0 if old else passes):
            after = _blend(after, seconds)
        if same and not self._steady[length]:
            after = seconds
            self._steady[length] = True
        self.pass_s[length] = after
        if length == 0 and before:
            # A machine that gets busy or idle does so for all lengths, and those that are not
            # tried would keep what they cost before.
            self.pass_s[1:] = [known * after / before for known in self.pass_s[1:]]
            self.step_s *= after / before
        self._samples[length] += passes

    @property
    def knows_step(self) -> bool:
        """Whether a draft step was measured here."""
        return self._stepped

    def is_new(self, length: int) -> bool:
        """Whether the next samples of a length may change what is thought of it a lot."""
        return self._samples[length] < _ENOUGH

    def elsewhere(self, length: int) -> float:
        """Seconds of passes of as many rows, for another number of answers; 0 if there were none.

        As if the machine had been as fast then as it is now.
        """
        seconds, _ = self._rows.near(self._answers * (1 + length))
        plain, _ = self._rows.near(self._answers)
        return seconds * self.pass_s[0] / plain if self.pass_s[0] and plain else seconds

    def is_sure(self, length: int) -> bool:
        """Whether passes of as many rows were measured often enough, here or elsewhere."""
        _, samples = self._rows.near(self._answers * (1 + length))
        return self._samples[length] > 0 or samples >= _ENOUGH_ELSEWHERE

    def curve(self) -> list[float]:
        """Seconds of a pass for every draft length, measured or not.

        What was not measured often enough, here or elsewhere, is expected to cost the length below
        it and the smallest growth seen, so that a length that may pay is tried, and then known; but
        never more than on a straight line to the next one that is known, nor than decoding the rows
        one by one. That is also what a length is taken to cost while nothing of at least half its
        rows is known: trials of what is too long are dear, and get shorter so.

        Needs at least one length that was measured, here or elsewhere.
        """
        elsewhere = [self.elsewhere(n) for n in range(len(self.pass_s))]
        recent = self._passes - _STALE
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
    return estimate + _LEARN_OLD * (sample - estimate) if estimate else sample


def _blend(estimate: float, sample: float) -> float:
    if not estimate:
        return sample
    bound = _CLAMP * estimate
    return estimate + _LEARN * max(-bound, min(bound, sample - estimate))
