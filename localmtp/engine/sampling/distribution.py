"""Distributions of the next token, and drafts drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray


class Distribution(Protocol):
    """Token probabilities after temperature and truncation."""

    @property
    def ids(self) -> Sequence[int]:
        """Tokens that are not truncated, most probable first."""

    @property
    def probs(self) -> Sequence[float]:
        """[len(ids)], sums to 1."""

    def tokens(self) -> NDArray[np.int32]:
        """Returns the ids in any order."""

    @property
    def first(self) -> int:
        """The most probable token."""

    @property
    def confidence(self) -> float:
        """Probability of the most probable token."""

    def of(self, token_id: int) -> float:
        """Probability of a token; 0 if it was truncated."""

    def of_all(self, ids: Sequence[int]) -> Sequence[float]:
        """Probabilities of tokens, [len(ids)]."""

    def minus(self, other: Distribution) -> Distribution:
        """Returns the residual max(0, self - other), normalized; `self` if it is empty."""

    def overlap(self, other: Distribution) -> float:
        """Sum of min(self, other): the acceptance rate of tokens drawn from `other`."""

    def at(self, place: float) -> int:
        """Returns the token at a point, 0..1, of the cumulative distribution."""


@dataclass(frozen=True, slots=True)
class ListDistribution:
    """A distribution of few tokens, each used once: lists are faster here than arrays."""

    ids: list[int]
    probs: list[float]

    def tokens(self) -> NDArray[np.int32]:
        """See `Distribution.tokens`."""
        return np.array(self.ids, np.int32)

    @property
    def first(self) -> int:
        """See `Distribution.first`."""
        return self.ids[0]

    @property
    def confidence(self) -> float:
        """See `Distribution.confidence`."""
        return self.probs[0]

    def of(self, token_id: int) -> float:
        """See `Distribution.of`."""
        return self.probs[self.ids.index(token_id)] if token_id in self.ids else 0.0

    def of_all(self, ids: Sequence[int]) -> list[float]:
        """See `Distribution.of_all`."""
        found = dict(zip(self.ids, self.probs, strict=True))
        return [found.get(i, 0.0) for i in ids]

    def minus(self, other: Distribution) -> Distribution:
        """See `Distribution.minus`."""
        pairs = zip(self.probs, other.of_all(self.ids), strict=True)
        rest = [p - q if p > q else 0.0 for p, q in pairs]
        total = sum(rest)
        return ListDistribution(self.ids, [p / total for p in rest]) if total > 0 else self

    def overlap(self, other: Distribution) -> float:
        """See `Distribution.overlap`."""
        if not isinstance(other, ListDistribution):
            return other.overlap(self)
        given = dict(zip(other.ids, other.probs, strict=True))
        common = 0.0
        for token_id, p in zip(self.ids, self.probs, strict=True):
            if token_id in given:
                q = given[token_id]
                common += p if p < q else q  # `min` takes three times as long
        return common

    def at(self, place: float) -> int:
        """See `Distribution.at`; the most probable tokens come first."""
        for token_id, p in zip(self.ids, self.probs, strict=True):
            place -= p
            if place < 0.0:
                return token_id
        # The probabilities sum to slightly less than 1.
        return self.ids[self.probs.index(max(self.probs))]


def certain(token_id: int) -> ListDistribution:
    """Returns the distribution of one token."""
    return ListDistribution([token_id], [1.0])


@dataclass(slots=True)
class Proposal:
    """Result of a draft step, before a token is drawn.

    Pacing sees only the confidence, never the drawn token: stopping because of a token would bias
    what is verified, and with it the output.
    """

    confidence: float
    """Probability, 0..1, that the drafter gives its most probable token."""
    token_id: int = -1
    distribution: Distribution | None = None


@dataclass(slots=True, eq=False)
class Draft:
    """Tokens to verify in one pass, and how they were drawn."""

    tokens: list[int] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    """q, from which each token was drawn; empty if the acceptance rule does not need it."""
    offered: list[Distribution] = field(default_factory=list)
    """The drafter's distribution for each token; q may be its argmax alone."""
    steps: int = 0
    """Draft steps taken, including a last one whose token is not verified."""


NO_DRAFT = Draft(cast("list[int]", ()), cast("list[Distribution]", ()))
"""An empty draft that all rounds share: tuples, so that appending to it raises."""
