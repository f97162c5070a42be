"""Exponential noise as a function of a key and a token id: a counter-based generator."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
"""Arithmetic is modulo 2^64."""

STEP, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of SplitMix64 (Steele, Lea and Flood 2014)."""

SCALE = 2.0**-53
"""Distance of the uniform numbers u from which the noise -log(u) is computed."""

_FEW = 24
"""Token ids up to which plain integers are faster than arrays."""

_BLOCK = 1 << 14
"""Token ids whose noise is made at a time: two arrays of 64 bits fit the second-level cache."""

_STEPS = np.arange(_BLOCK, dtype=np.uint64) * np.uint64(STEP)
_N_1, _N_2 = np.uint64(_MIX_1), np.uint64(_MIX_2)
_11, _27, _30, _31 = (np.uint64(bits) for bits in (11, 27, 30, 31))


def mix(value: int) -> int:
    """Returns SplitMix64's finalizer of 64 bits."""
    value = (value ^ value >> 30) * _MIX_1 & MASK
    value = (value ^ value >> 27) * _MIX_2 & MASK
    return value ^ value >> 31


def exponential(key: int, ids: Sequence[int]) -> Sequence[float]:
    """Exponentially distributed noise, a function of the key and each id.

    Args:
        key: 64 bits.
        ids: token ids.

    Returns:
        [len(ids)] of positive numbers.
    """
    if len(ids) > _FEW:
        many: list[float] = exponentials(key, np.asarray(ids)).tolist()
        return many
    return [-log(((mix(key + i * STEP & MASK) >> 11) + 0.5) * SCALE) for i in ids]


def exponentials(key: int, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns the noise of `exponential` as an array."""
    mixed = ids.astype(np.uint64) * np.uint64(STEP) + np.uint64(key)
    _mix_all(mixed, np.empty_like(mixed))
    mixed >>= _11
    found: NDArray[np.float64] = -np.log((mixed.astype(np.float64) + 0.5) * SCALE)
    return found


def complements(key: int, n: int) -> NDArray[np.float32]:
    """Returns 1 - u of the ids 0..n-1, in units of `SCALE`: [n].

    It is a lower bound of the noise, and nearly equal to it where that is small. No logarithm is
    needed, and 32 bits suffice near 0.
    """
    found = np.empty(n, np.float32)
    mixed = np.empty(min(n, _BLOCK), np.uint64)
    scratch = np.empty_like(mixed)
    for begin in range(0, n, _BLOCK):
        size = min(_BLOCK, n - begin)
        block = mixed[:size]
        np.add(_STEPS[:size], np.uint64(key + begin * STEP & MASK), out=block)
        _mix_all(block, scratch[:size])
        np.invert(block, out=block)
        block >>= _11
        found[begin : begin + size] = block.view(np.int64)
    found += np.float32(0.5)
    return found


def _mix_all(values: NDArray[np.uint64], scratch: NDArray[np.uint64]) -> None:
    """SplitMix64's finalizer in place."""
    values ^= np.right_shift(values, _30, out=scratch)
    values *= _N_1
    values ^= np.right_shift(values, _27, out=scratch)
    values *= _N_2
    values ^= np.right_shift(values, _31, out=scratch)
