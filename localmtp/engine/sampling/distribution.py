"""Distributions of the next token, and drafts drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast


@dataclass(frozen=True, slots=True)
class Distribution:
    """Token probabilities after temperature and truncation, most probable first.

    Usually few, each used once: lists are faster here than arrays.
    """

    ids: list[int]
    probs: list[float]
    """[len(ids)], sums to 1."""

    def of(self, token_id: int) -> float:
        """Probability of a token; 0 if it was truncated."""
        return self.probs[self.ids.index(token_id)] if token_id in self.ids else 0.0

    def minus(self, other: Distribution) -> Distribution:
        """Returns the residual max(0, self - other), normalized; `self` if it is empty."""
        given = other.by_id()
        rest = [max(0.0, p - given.get(i, 0.0)) for i, p in zip(self.ids, self.probs, strict=True)]
        total = sum(rest)
        return Distribution(self.ids, [p / total for p in rest]) if total > 0 else self

    def overlap(self, other: Distribution) -> float:
        """Sum of min(self, other): the acceptance rate of tokens drawn from `other`."""
        given = other.by_id()
        return sum(
            min(p, given[i]) for i, p in zip(self.ids, self.probs, strict=True) if i in given
        )

    def argmax(self) -> Distribution:
        """Returns the distribution with the most probable token only."""
        return Distribution(self.ids[:1], [1.0])

    def at(self, place: float) -> int:
        """Returns the token at a point, 0..1, of the cumulative distribution."""
        for token_id, p in zip(self.ids, self.probs, strict=True):
            place -= p
            if place < 0.0:
                return token_id
        # The probabilities sum to slightly less than 1.
        return self.ids[self.probs.index(max(self.probs))]

    def by_id(self) -> Mapping[int, float]:
        """Probabilities by token id."""
        return dict(zip(self.ids, self.probs, strict=True))


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
