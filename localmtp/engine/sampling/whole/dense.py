"""Distributions of too many tokens for lists: arrays over the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Distribution

BLOCK = 512
"""Weights are summed in blocks of this length, so that drawing a token searches one of them."""

SPARSE = 8
"""Distributions of up to this part of the vocabulary list the ids of their tokens."""

Weights = NDArray[np.float32]


class DenseDistribution:
    """A distribution as weights of the whole vocabulary; see `Distribution`.

    Weights have 32 bits, as logits have.

    Args:
        weights: [multiple of `BLOCK`], not negative; 0 for truncated tokens and beyond the
            vocabulary.
        first: the most probable token.
        support: ids of all tokens with a weight, ascending; None if they are more than one in
            `SPARSE`.
    """

    def __init__(
        self, weights: Weights, first: int, support: NDArray[np.intp] | None = None
    ) -> None:
        self.weights, self.first, self.support = weights, first, support
        self._sums = weights.reshape(-1, BLOCK).sum(axis=1).astype(np.float64)
        self.total = float(self._sums.sum())

    @property
    def confidence(self) -> float:
        """See `Distribution.confidence`."""
        return float(self.weights[self.first]) / self.total

    @cached_property
    def ids(self) -> list[int]:
        """See `Distribution.ids`; sorted when first used."""
        held = self.weights.nonzero()[0]
        ids: list[int] = held[(-self.weights[held]).argsort(kind="stable")].tolist()
        return ids

    @cached_property
    def probs(self) -> list[float]:
        """See `Distribution.probs`."""
        return self.of_all(self.ids)

    def tokens(self) -> NDArray[np.int32]:
        """See `Distribution.tokens`."""
        held = self.weights.nonzero()[0] if self.support is None else self.support
        return held.astype(np.int32)

    def of(self, token_id: int) -> float:
        """See `Distribution.of`."""
        inside = token_id < self.weights.size
        return float(self.weights[token_id]) / self.total if inside else 0.0

    def of_all(self, ids: Sequence[int]) -> list[float]:
        """See `Distribution.of_all`."""
        at = np.asarray(ids)
        if at.max() < self.weights.size:
            found: list[float] = (self.weights[at].astype(np.float64) / self.total).tolist()
            return found
        return [self.of(i) for i in ids]

    def minus(self, other: Distribution) -> Distribution:
        """See `Distribution.minus`."""
        if isinstance(other, DenseDistribution):
            n = min(self.weights.size, other.weights.size)
            rest = self.weights.copy()
            rest[:n] -= other.weights[:n] * np.float32(self.total / other.total)
            np.maximum(rest, 0.0, out=rest)
        else:
            rest = self.weights.copy()
            for token, p in zip(other.ids, other.probs, strict=True):
                if token < rest.size:
                    rest[token] = max(0.0, rest[token] - p * self.total)
        found = DenseDistribution(rest, self.first, self.support)
        return found if found.total > 0 else self

    def overlap(self, other: Distribution) -> float:
        """See `Distribution.overlap`."""
        if not isinstance(other, DenseDistribution):
            return sum(map(min, other.probs, self.of_all(other.ids)))
        n = min(self.weights.size, other.weights.size)
        common = other.weights[:n] * np.float32(self.total / other.total)
        np.minimum(common, self.weights[:n], out=common)
        return float(common.sum()) / self.total

    def at(self, place: float) -> int:
        """See `Distribution.at`; tokens are in the order of their ids."""
        ends = self._sums.cumsum()
        place *= float(ends[-1])
        block = min(int(ends.searchsorted(place, "right")), int(self._sums.nonzero()[0][-1]))
        begin = block * BLOCK
        inside = self.weights[begin : begin + BLOCK]
        within = inside.cumsum(dtype=np.float64)
        # In the unit of the blocks, whose sums were rounded to 32 bits.
        rest = (place - (ends[block] - self._sums[block])) / self._sums[block] * within[-1]
        at = min(int(within.searchsorted(rest, "right")), int(inside.nonzero()[0][-1]))
        return begin + at
