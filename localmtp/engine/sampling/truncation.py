"""Temperature and truncation: from logits to the sampled distribution."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Distribution, ListDistribution
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.whole.rows import of_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localmtp.engine.llama import Floats
    from localmtp.engine.llama.device_rows import Candidates

COLUMNS = 4096
"""Logits are treated as rows of this length. Their column maxima take one pass of wide vector
instructions, and the k-th largest maximum is a lower bound of the k-th largest logit."""

LARGE = 8 * COLUMNS
"""Vocabularies below this size are ranked as a whole."""

_BLOCKS = 256
"""Column maxima in which a bound is searched."""

_LOWEST = np.finfo(np.float32).min

_MIN_TEMPERATURE = 1e-6
"""Lower bound of temperatures. Different logits differ by more than this, so lower temperatures
would change nothing but overflow 32 bits."""


class Truncation:
    """Temperature, then top-k, top-p and min-p. One thread at a time.

    Args:
        sampling: with a temperature above 0.
    """

    def __init__(self, sampling: SamplingParams) -> None:
        # Imported here, because `localmtp --help` and the chat read parameters without libllama.
        from localmtp.engine.llama import Ranking

        self._sampling = sampling
        self._rank = Ranking(
            max(1, sampling.top_k),
            max(_MIN_TEMPERATURE, sampling.temperature),
            sampling.top_p,
            sampling.min_p,
        ).rank

    def of(self, logits: Floats) -> Distribution:
        """Returns the distribution.

        Args:
            logits: [n_vocab], at least one of them finite.
        """
        k = self._sampling.top_k
        if k <= 0 or LARGE <= logits.size <= k:
            return of_row(logits, self._sampling)
        if logits.size < LARGE:
            ids, top = self._rank(logits)
        else:
            few = _top_ids(logits, k)
            ids, top = self._rank(logits[few], few)
        return _weighted(ids, top)

    def of_candidates(self, candidates: Candidates) -> Distribution:
        """Returns the distribution of a row whose largest logits are known.

        Args:
            candidates: ids and logits of at least the top-k tokens.
        """
        ids, logits = candidates
        return _weighted(*self._rank(logits, ids))


def _weighted(ids: list[int], top: Sequence[float]) -> ListDistribution:
    """Returns the distribution of ranked tokens with these logits."""
    first = top[0]
    weights = [exp(logit - first) for logit in top]
    if not weights[-1]:  # masked
        weights = weights[: weights.index(0.0)]
        del ids[len(weights) :]
    total = sum(weights)
    return ListDistribution(ids, [weight / total for weight in weights])


def truncation_of(sampling: SamplingParams, *, candidates: bool) -> Callable[[Any], Distribution]:
    """Returns the function from a row to its distribution.

    Args:
        sampling: with a temperature above 0.
        candidates: rows are `Candidates`, instead of logits.
    """
    truncation = Truncation(sampling)
    return truncation.of_candidates if candidates else truncation.of


def distribution(logits: Floats, sampling: SamplingParams) -> Distribution:
    """Returns one distribution; see `Truncation`."""
    return Truncation(sampling).of(logits)


def _top_ids(logits: Floats, k: int) -> NDArray[np.intp]:
    """Returns the ids of the k largest of many logits, possibly with some smaller ones.

    At least k logits reach the k-th largest maximum of disjoint columns. Only those matter, and
    only the few columns that hold one are searched.
    """
    n = logits.size
    if 2 * k > COLUMNS:
        return np.argpartition(logits, max(0, n - k))[max(0, n - k) :]
    whole = n - n % COLUMNS
    table, tail = logits[:whole].reshape(-1, COLUMNS), logits[whole:]
    maxima = np.maximum.reduce(table, axis=0)
    if tail.size:
        np.maximum(maxima[: tail.size], tail, out=maxima[: tail.size])
    few = np.maximum.reduce(maxima.reshape(-1, _BLOCKS)) if 2 * k <= _BLOCKS else maxima.copy()
    few.partition(few.size - k)
    # Where all but a few tokens are masked, the lowest number.
    bound = max(few[few.size - k], _LOWEST)
    columns = (maxima >= bound).nonzero()[0]
    # Two-dimensional indices and checks of bounds would take longer than all else here.
    found = table.take(columns, axis=1, mode="wrap") >= bound
    rows, at = np.divmod(found.ravel().nonzero()[0], columns.size)
    ids: NDArray[np.intp] = rows * COLUMNS + columns[at]
    if tail.size:
        ids = np.concatenate((ids, (tail >= bound).nonzero()[0] + whole))
    return ids
