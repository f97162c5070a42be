"""Sample rate conversion of mono sound, block by block."""

from __future__ import annotations

from math import ceil, gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CROSSINGS = 24
"""Zero crossings of the low-pass filter on each side."""

_BETA = 8.6
"""Shape of the Kaiser window: about 85 dB in the stop band."""

_ROLL_OFF = 0.94
"""Cutoff, as a share of the lower Nyquist frequency, so that its stop band begins there."""


class Resampler:
    """Converts blocks from one sample rate to another with a windowed-sinc filter.

    Output sample n is the input at the time `n / to`: no delay, the same length in seconds. Only
    the reach of the filter is retained between blocks.

    Args:
        rate: of the input, in samples per second.
        to: of the output.
    """

    def __init__(self, rate: int, to: int) -> None:
        common = gcd(rate, to)
        self._up, self._down = to // common, rate // common
        cutoff = _ROLL_OFF * min(1.0, to / rate)
        self._reach = ceil(_CROSSINGS / cutoff)
        self._cutoff = cutoff
        # A table: the Bessel function takes longer than the rest of a filter.
        self._window = np.linspace(0, self._reach, 8192), np.kaiser(16383, _BETA)[8191:]
        self._pending: NDArray[np.float32] = np.zeros(self._reach, np.float32)
        self._start = -self._reach
        """Index of the first pending input sample."""
        self._read = self._written = 0
        """Samples of the input and of the output so far."""

    def feed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the output samples that the input determines so far."""
        if self._up == self._down:
            return block
        self._read += len(block)
        return self._convert(block, self._read - self._reach)

    def finish(self) -> NDArray[np.float32]:
        """Returns the rest of the output, as if silence followed."""
        if self._up == self._down:
            return np.zeros(0, np.float32)
        return self._convert(np.zeros(self._reach + 1, np.float32), self._read)

    def _convert(self, block: NDArray[np.float32], until: int) -> NDArray[np.float32]:
        """Returns the output up to the input position `until`, exclusive."""
        self._pending = np.concatenate((self._pending, block))
        end = max(self._written, -(-until * self._up // self._down))
        if end == self._written:
            return np.zeros(0, np.float32)
        output = np.empty(end - self._written, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, 2 * self._reach)
        for n in range(self._written, min(end, self._written + self._up)):
            position, phase = divmod(n * self._down, self._up)
            first = position - self._reach + 1 - self._start
            count = len(range(n, end, self._up))
            rows = windows[first :: self._down][:count]
            output[n - self._written :: self._up] = rows @ self._taps(phase)
        self._written = end
        used = end * self._down // self._up - self._reach + 1 - self._start
        self._pending, self._start = self._pending[used:], self._start + used
        return output

    def _taps(self, phase: int) -> NDArray[np.float32]:
        """Returns the filter around a position between two samples, with a gain of one."""
        at = np.arange(1 - self._reach, self._reach + 1) - phase / self._up
        window = np.interp(np.abs(at), *self._window)
        taps: NDArray[np.float64] = np.sinc(self._cutoff * at) * window
        scaled: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
        return scaled
