"""From logits to tokens, and from drafts to verdicts, without changing what the target would say.

Greedy keeps a draft token exactly when it is the target's own argmax. Sampling is speculative
sampling (Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318): a token
drawn from the drafter's distribution q is kept with probability min(1, p/q), else one is drawn
from the residual max(0, p - q); what comes out is distributed exactly as p, whatever q is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats, TokenIds

_COLUMNS = 4096
"""Logits are looked at as rows of this length, whose column maxima take one pass of wide vector
instructions; the k-th largest of the maxima bounds the k-th largest logit from below."""

_SMALL = 8 * _COLUMNS
"""Vocabularies below this, and of sizes no Gemma has, are looked at as shorter rows."""

_BLOCKS = 256
"""The length of those; and as many maxima of columns are enough to find a bound in."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the defaults are Gemma 4's own.

    Applied in this order: temperature, top-k, top-p, min-p.
    """

    temperature: float = 1.0
    """0 for greedy."""
    top_k: int = 64
    """0 for no limit."""
    top_p: float = 0.95
    min_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Token probabilities after temperature and truncation, most probable first."""

    ids: TokenIds
    probs: NDArray[np.float64]
    """[len(ids)], adding up to 1."""

    def of(self, token_id: int) -> float:
        """The probability of one token; 0 if it was truncated away."""
        return float(self.probs @ (self.ids == token_id))

    def minus(self, other: Distribution) -> Distribution:
        """The residual max(0, self - other), normalised; self where nothing is left."""
        rest = np.maximum(self.probs - self._in(other), 0.0)
        total = rest.sum()
        return Distribution(self.ids, rest / total) if total > 0 else self

    def overlap(self, other: Distribution) -> float:
        """The sum of min(self, other): how often a token drawn from `other` is accepted."""
        return float(np.minimum(self.probs, self._in(other)).sum())

    def favourite(self) -> Distribution:
        """All probability on the most probable token."""
        return Distribution(self.ids[:1], np.ones(1))

    def _in(self, other: Distribution) -> NDArray[np.float64]:
        """The probabilities that `other` gives to the tokens of this one."""
        order = other.ids.argsort()
        ids, probs = other.ids[order], other.probs[order]
        nearest = ids.searchsorted(self.ids)
        nearest[nearest == ids.size] = 0
        shared: NDArray[np.float64] = probs[nearest] * (ids[nearest] == self.ids)
        return shared


@dataclass(slots=True)
class Proposal:
    """What one draft step offers, before anything is drawn from it.

    Pacing sees only this, never the drawn token: stopping on the token itself would bias what is
    verified, and with it the output.
    """

    confidence: float
    """In 0..1: how sure the drafter is of its most probable token."""
    token_id: int = -1
    distribution: Distribution | None = None


@dataclass(slots=True)
class Draft:
    """The tokens to verify in one pass, and how they were drawn."""

    tokens: list[int] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    """q, what each token was drawn from; empty when drafting is greedy."""
    offered: list[Distribution] = field(default_factory=list)
    """What the drafter offered for each; q may be its favourite alone."""
    steps: int = 0
    """Drafter decodes it took, a last one that was not worth verifying included."""


NO_DRAFT = Draft()


class Sampler(Protocol):
    """Chooses draft tokens and judges them."""

    def propose(self, logits: Floats) -> Proposal:
        """Summarise a drafter's logits [n_vocab]."""

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Add the proposal's token to the draft and return it."""

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verify a draft.

        Args:
            logits: the target's [len(draft.tokens) + 1, n_vocab]; row i judges token i.
            draft: what was proposed.

        Returns:
            How many draft tokens are accepted, and the token that follows them: the correction,
            or the bonus when all were accepted.
        """


class Greedy:
    """Temperature 0: argmax on both sides."""

    def propose(self, logits: Floats) -> Proposal:
        """The drafter's argmax, and about its softmax probability.

        A softmax over 262,144 entries would cost more than the rest of the round. The sum over
        maxima of blocks is a lower bound of its denominator, and comes with the argmax; where
        the top is clear it is within a few percent.
        """
        if logits.size % _COLUMNS or logits.size < _SMALL:
            token = int(logits.argmax())
            return Proposal(float(1.0 / np.exp(logits - logits[token]).sum()), token)
        maxima = logits.reshape(-1, _COLUMNS).max(axis=0)
        column = int(maxima.argmax())
        token = column + _COLUMNS * int(logits[column::_COLUMNS].argmax())
        blocks = maxima.reshape(8, -1).max(axis=0)
        return Proposal(float(1.0 / np.exp(blocks - maxima[column]).sum()), token)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Take the argmax."""
        draft.tokens.append(proposal.token_id)
        return proposal.token_id

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accept while the draft is the target's argmax."""
        for row, drafted in enumerate(draft.tokens):
            token = int(logits[row].argmax())
            if token != drafted:
                return row, token
        return len(draft.tokens), int(logits[len(draft.tokens)].argmax())


_RULE_MEMORY = 0.95
"""Decay per verified token of the two rules' records: the last twenty decide."""


class Stochastic:
    """Temperature above 0: speculative sampling, exact in distribution.

    Any q gives the target's distribution; which one is accepted more often depends on how sharp
    target and drafter are. Every verified token shows what two of them would have achieved: the
    drafter's distribution as it is (the overlap of p and q) and its favourite alone (p of that
    token). The next drafts are drawn in the way that did better lately. Only earlier rounds
    decide, so the choice is independent of what is drawn.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed).random
        self._by_chance = self._by_favourite = 0.0

    def propose(self, logits: Floats) -> Proposal:
        """The drafter's distribution under the target's own temperature and truncation."""
        q = distribution(logits, self._sampling)
        return Proposal(float(q.probs[0]), distribution=q)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draw from the drafter's distribution, or take its favourite."""
        q = proposal.distribution
        assert q is not None
        draft.offered.append(q)
        if self._by_favourite > self._by_chance:
            q = q.favourite()
        token = self._sample(q)
        draft.tokens.append(token)
        draft.distributions.append(q)
        return token

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accept each token with probability min(1, p/q), or replace it from the residual."""
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = distribution(logits[row], self._sampling)
            self._compare(p, draft.offered[row])
            if self._random() * q.of(drafted) >= p.of(drafted):
                return row, self._sample(p.minus(q))
        bonus = distribution(logits[len(draft.tokens)], self._sampling)
        return len(draft.tokens), self._sample(bonus)

    def _compare(self, p: Distribution, offered: Distribution) -> None:
        self._by_chance = _RULE_MEMORY * self._by_chance + p.overlap(offered)
        self._by_favourite = _RULE_MEMORY * self._by_favourite + p.of(int(offered.ids[0]))

    def _sample(self, source: Distribution) -> int:
        cumulative = source.probs.cumsum()
        at = cumulative.searchsorted(self._random() * cumulative[-1], side="right")
        return int(source.ids[min(int(at), source.ids.size - 1)])


def make_sampler(sampling: Sampling) -> Sampler:
    """The sampler for these settings."""
    return Stochastic(sampling) if sampling.temperature > 0 else Greedy()


def distribution(logits: Floats, sampling: Sampling) -> Distribution:
    """What is sampled from: temperature, then top-k, top-p and min-p, normalised.

    Args:
        logits: [n_vocab].
        sampling: with a temperature above 0.
    """
    ids = _top_ids(logits, sampling.top_k)
    top = logits[ids].astype(np.float64)
    order = (-top).argsort(kind="stable")[: sampling.top_k or None]
    ids, top = ids[order], top[order]
    probs = np.exp((top - top[0]) / sampling.temperature)
    cumulative = probs.cumsum()
    keep = probs.size
    if sampling.top_p < 1.0:
        keep = int(cumulative.searchsorted(sampling.top_p * cumulative[-1])) + 1
    if sampling.min_p > 0.0:  # relative to the first, which is 1
        keep = min(keep, int((probs >= sampling.min_p).sum()))
    return Distribution(ids[:keep], probs[:keep] / cumulative[keep - 1])


def _top_ids(logits: Floats, k: int) -> TokenIds:
    """Ids of the k largest logits in ascending order, perhaps with some of the next ones.

    At least k logits reach the k-th largest of the maxima of disjoint columns, so those that do are
    all that matter; of a large vocabulary only the few columns are looked into that hold one.
    """
    n = logits.size
    if k <= 0 or k >= n:
        return np.arange(n, dtype=np.int32)
    width = _BLOCKS if n % _COLUMNS or n < _SMALL else _COLUMNS
    if n < width or 2 * k > width:
        return np.sort(np.argpartition(logits, n - k)[n - k :]).astype(np.int32)
    table = logits[: n - n % width].reshape(-1, width)
    maxima = table.max(axis=0)
    if width == _BLOCKS:
        return (logits >= _bound(maxima, k)).nonzero()[0].astype(np.int32)
    few = maxima.reshape(-1, _BLOCKS).max(axis=0) if 2 * k <= _BLOCKS else maxima
    bound = _bound(few, k)
    columns = (maxima >= bound).nonzero()[0]
    rows, at = (table.take(columns, axis=1) >= bound).nonzero()
    ids: TokenIds = (rows * _COLUMNS + columns[at]).astype(np.int32)
    return ids


def _bound(maxima: Floats, k: int) -> np.float32:
    """The k-th largest, or the lowest number where that was masked out."""
    return max(np.partition(maxima, -k)[-k], np.finfo(np.float32).min)
