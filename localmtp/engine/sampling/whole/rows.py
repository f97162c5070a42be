"""Distributions of rows of logits without top-k.

libllama's sums in 32 bits would miss top-p by half a percent, and lists of a whole vocabulary take
longer than the pass of a small model.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Distribution, ListDistribution
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.whole.dense import BLOCK, SPARSE, DenseDistribution, Weights

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats

_FEW = 256
"""Tokens up to which a distribution is a list."""

_SORTED = 4096
"""Tokens up to which they are sorted, in 64 bits; more are counted in a histogram."""

_BIN_BITS = 16
"""Bits of a weight that its bin of the histogram leaves out: bins are 0.8 % wide."""

_BINS = (0x3F800000 >> _BIN_BITS) + 1
"""The last one holds 1.0."""

_AT_ONCE = 1 << 15
"""Weights that are counted at a time: what they are converted to stays in the caches."""

_MARGIN = 1e-5
"""Relative rounding of a bound in 32 bits; what lies in between is compared in 64."""

_MIN_TEMPERATURE = 1e-6
"""As for `Ranking`: with less, differences of logits would overflow 32 bits."""

_LEAST = 1e-300
"""A weight that is never drawn, and still above 0."""

Doubles = NDArray[np.float64]
Ids = NDArray[np.intp]


def of_row(logits: Floats, sampling: SamplingParams) -> Distribution:
    """Returns the distribution of a row; top-k is ignored.

    Args:
        logits: [n_vocab], at least one of them finite.
        sampling: with a temperature above 0.
    """
    if sampling.top_p < 1.0:
        return _of_top_p(logits, sampling)
    if sampling.min_p > 0.0 or logits.size <= _FEW:
        return _of_min_p(logits, sampling)
    first = int(logits.argmax())
    return DenseDistribution(_weights(logits, logits[first], sampling.temperature), first)


def exact_weights(logits: Floats, most: float, temperature: float) -> Doubles:
    """Returns weights relative to the logit `most` in 64 bits."""
    weights: Doubles = np.exp(
        (logits.astype(np.float64) - most) / max(_MIN_TEMPERATURE, temperature)
    )
    return weights


def _weights(logits: Floats, most: np.float32, temperature: float) -> Weights:
    """Returns weights relative to the logit `most`, and zeros to the end of a block."""
    n = logits.size
    weights: Weights = np.empty(-(-n // BLOCK) * BLOCK, np.float32)
    inside = weights[:n]
    np.subtract(logits, most, out=inside)
    if temperature != 1.0:
        inside *= np.float32(1.0 / max(_MIN_TEMPERATURE, temperature))
    np.exp(inside, out=inside)
    weights[n:] = 0.0
    return weights


def _of_top_p(logits: Floats, sampling: SamplingParams) -> Distribution:
    n, most = logits.size, np.maximum.reduce(logits)
    weights = _weights(logits, most, sampling.temperature)
    sums = np.add.reduce(weights.reshape(-1, BLOCK), axis=1)
    total = float(np.add.reduce(sums, dtype=np.float64))
    # Tokens below this bound have less than 1 - top_p together: top-p needs none of them.
    least = max(sampling.min_p, (1.0 - sampling.top_p) * total / n)
    likely = weights >= least * (1.0 - _MARGIN)
    if np.count_nonzero(likely) <= _SORTED:
        few = likely.nonzero()[0]
        exact = exact_weights(logits[few], float(most), sampling.temperature)
        order = _ranked(exact, sampling.top_p * total)
        return _of_ranked(few[order], exact[order], sampling.min_p, n)
    likely &= weights >= np.float32(sampling.min_p)
    likely &= _nucleus(weights, sampling.top_p * total)
    weights *= likely
    ids = likely.nonzero()[0] if np.count_nonzero(likely) * SPARSE <= weights.size else None
    return DenseDistribution(weights, int(weights.argmax()), ids)


def _of_min_p(logits: Floats, sampling: SamplingParams) -> Distribution:
    """With min-p only, which compares with one token: no sum over all is needed."""
    most, least = float(np.maximum.reduce(logits)), max(_LEAST, sampling.min_p)
    bound = most + sampling.temperature * log(least)
    few = (logits >= bound - _MARGIN * max(1.0, abs(bound))).nonzero()[0]
    exact = exact_weights(logits[few], most, sampling.temperature)
    if few.size > _SORTED:
        enough = exact >= least
        return _dense(few[enough], exact[enough], logits.size)
    order = (-exact).argsort(kind="stable")
    return _of_ranked(few[order], exact[order], least, logits.size)


def _of_ranked(ids: Ids, weights: Doubles, least: float, n: int) -> Distribution:
    """Returns the distribution of some tokens.

    Args:
        ids: most probable first.
        weights: [len(ids)].
        least: smallest weight that counts.
        n: size of the vocabulary.
    """
    if weights[-1] < least:
        size = int(np.count_nonzero(weights >= least))
        ids, weights = ids[:size], weights[:size]
    if ids.size <= _FEW:
        return ListDistribution(ids.tolist(), (weights / np.add.reduce(weights)).tolist())
    order = ids.argsort()
    return _dense(ids[order], weights[order], n)


def _dense(ids: Ids, weights: Doubles, n: int) -> DenseDistribution:
    """Returns the distribution of tokens with ascending ids, of a vocabulary of n."""
    dense: Weights = np.zeros(-(-n // BLOCK) * BLOCK, np.float32)
    dense[ids] = weights
    support = ids if ids.size * SPARSE <= dense.size else None
    return DenseDistribution(dense, int(ids[weights.argmax()]), support)


def _nucleus(weights: Weights, enough: float) -> NDArray[np.bool_]:
    """Returns which are the fewest largest weights that sum to `enough`.

    Args:
        weights: from 0 to 1.
        enough: at most their sum.
    """
    bins = weights.view(np.int32) >> _BIN_BITS
    sums = np.zeros(_BINS)
    for begin in range(0, weights.size, _AT_ONCE):
        block = slice(begin, begin + _AT_ONCE)
        sums += np.bincount(bins[block], weights[block], _BINS)
    above = sums[::-1].cumsum()
    last = min(int(above.searchsorted(enough)), _BINS - 1)
    edge = _BINS - 1 - last
    before = float(above[last - 1]) if last else 0.0
    within = (bins == edge).nonzero()[0]
    chosen = bins > edge
    chosen[within[_ranked(weights[within], enough - before)]] = True
    return chosen


def _ranked(weights: NDArray[np.floating], enough: float) -> Ids:
    """Returns indices of the fewest largest weights that sum to `enough`, else all; largest first.

    Of equal weights, those with the lower index come first.
    """
    order = (-weights).argsort(kind="stable")
    return order[: int(weights[order].cumsum(dtype=np.float64).searchsorted(enough)) + 1]
