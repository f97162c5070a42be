"""From logits to tokens, and from drafts to verdicts, without changing what the target would say.

Greedy keeps a draft token exactly when it is the target's own argmax. SamplingParams is speculative
sampling (Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318): a token
drawn from the drafter's distribution q is kept with probability min(1, p/q), else one is drawn
from the residual max(0, p - q); what comes out is distributed exactly as p, whatever q is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.params import SamplingParams

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats

_COLUMNS = 4096
"""Logits are looked at as rows of this length, whose column maxima take one pass of wide vector
instructions; the k-th largest of the maxima bounds the k-th largest logit from below."""

_SMALL = 8 * _COLUMNS
"""Vocabularies below this are ranked as a whole."""

_BLOCKS = 256
"""As many maxima of columns are enough to find a bound in. Vocabularies of sizes that no Gemma has
are looked at as rows of this length."""


_LOWEST = np.finfo(np.float32).min

_COLDEST = 1e-6
"""Temperatures below this change nothing but the range of numbers: logits that differ at all differ
by more than this, and divided by less they leave the range of 32 bits."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Token probabilities after temperature and truncation, most probable first.

    Few, as a rule, and touched once each: plain numbers are faster here than arrays.
    """

    ids: list[int]
    probs: list[float]
    """[len(ids)], adding up to 1."""

    def of(self, token_id: int) -> float:
        """The probability of one token; 0 if it was truncated away."""
        return self.probs[self.ids.index(token_id)] if token_id in self.ids else 0.0

    def minus(self, other: Distribution) -> Distribution:
        """The residual max(0, self - other), normalised; self where nothing is left."""
        given = other.by_id()
        rest = [max(0.0, p - given.get(i, 0.0)) for i, p in zip(self.ids, self.probs, strict=True)]
        total = sum(rest)
        return Distribution(self.ids, [p / total for p in rest]) if total > 0 else self

    def overlap(self, other: Distribution) -> float:
        """The sum of min(self, other): how often a token drawn from `other` is accepted."""
        given = other.by_id()
        return sum(
            min(p, given[i]) for i, p in zip(self.ids, self.probs, strict=True) if i in given
        )

    def favourite(self) -> Distribution:
        """All probability on the most probable token."""
        return Distribution(self.ids[:1], [1.0])

    def at(self, place: float) -> int:
        """The token that lies at a place, 0..1, of the cumulated probabilities."""
        for token_id, p in zip(self.ids, self.probs, strict=True):
            place -= p
            if place < 0.0:
                return token_id
        # Rounding: they add up to a little less than 1.
        return self.ids[self.probs.index(max(self.probs))]

    def by_id(self) -> Mapping[int, float]:
        """Probabilities by token id."""
        return dict(zip(self.ids, self.probs, strict=True))


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


@dataclass(slots=True, eq=False)
class Draft:
    """The tokens to verify in one pass, and how they were drawn."""

    tokens: list[int] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    """q, what each token was drawn from; empty when drafting is greedy."""
    offered: list[Distribution] = field(default_factory=list)
    """What the drafter offered for each; q may be its favourite alone."""
    steps: int = 0
    """Drafter decodes it took, a last one that was not worth verifying included."""


NO_DRAFT = Draft(cast("list[int]", ()), cast("list[Distribution]", ()))
"""An empty draft that all rounds share: tuples, so that appending to it raises."""


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

    def __init__(self, sampling: SamplingParams) -> None:
        self._truncated = Truncation(sampling).of
        self._random = np.random.default_rng(sampling.seed).random
        self._by_chance = self._by_favourite = 0.0

    def propose(self, logits: Floats) -> Proposal:
        """The drafter's distribution under the target's own temperature and truncation."""
        q = self._truncated(logits)
        return Proposal(q.probs[0], distribution=q)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draw from the drafter's distribution, or take its favourite."""
        q = proposal.distribution
        assert q is not None
        draft.offered.append(q)
        if self._by_favourite > self._by_chance:
            q = q.favourite()
        token = q.at(self._random())
        draft.tokens.append(token)
        draft.distributions.append(q)
        return token

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accept each token with probability min(1, p/q), or replace it from the residual."""
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = self._truncated(logits[row])
            self._compare(p, draft.offered[row])
            if self._random() * q.of(drafted) >= p.of(drafted):
                return row, p.minus(q).at(self._random())
        bonus = self._truncated(logits[len(draft.tokens)])
        return len(draft.tokens), bonus.at(self._random())

    def _compare(self, p: Distribution, offered: Distribution) -> None:
        self._by_chance = _RULE_MEMORY * self._by_chance + p.overlap(offered)
        self._by_favourite = _RULE_MEMORY * self._by_favourite + p.of(offered.ids[0])


def make_sampler(sampling: SamplingParams) -> Sampler:
    """The sampler for these settings."""
    return Stochastic(sampling) if sampling.temperature > 0 else Greedy()


class Truncation:
    """Turns logits into what is sampled from: temperature, then top-k, top-p and min-p.

    Args:
        sampling: with a temperature above 0.

    Serves one thread at a time.
    """

    def __init__(self, sampling: SamplingParams) -> None:
        # Settings are read where libllama is not: `localmtp --help`, the chat.
        from localmtp.engine.llama import Ranking

        self._sampling = sampling
        self._rank = Ranking(
            max(1, sampling.top_k),
            max(_COLDEST, sampling.temperature),
            sampling.top_p,
            sampling.min_p,
        ).rank

    def of(self, logits: Floats) -> Distribution:
        """The distribution.

        Args:
            logits: [n_vocab], at least one of them finite.
        """
        k = self._sampling.top_k
        if k <= 0:
            return _of_all(logits, self._sampling)
        if logits.size < _SMALL:
            ids, top = self._rank(logits)
        else:
            few = _top_ids(logits, k)
            ids, top = self._rank(logits[few], few)
        first = top[0]
        weights = [exp(logit - first) for logit in top]
        if not weights[-1]:  # masked out
            weights = weights[: weights.index(0.0)]
            del ids[len(weights) :]
        total = sum(weights)
        return Distribution(ids, [weight / total for weight in weights])


def distribution(logits: Floats, sampling: SamplingParams) -> Distribution:
    """What is sampled from once; see `Truncation`."""
    return Truncation(sampling).of(logits)


def _of_all(logits: Floats, sampling: SamplingParams) -> Distribution:
    """Without top-k: libllama's sums in 32 bits would miss top-p by half a percent here."""
    ids = (-logits).argsort(kind="stable")[: np.count_nonzero(logits > -np.inf)]
    top = logits[ids].astype(np.float64)
    probs = np.exp((top - top[0]) / sampling.temperature)
    cumulative = probs.cumsum()
    keep = probs.size
    if sampling.top_p < 1.0:
        keep = int(cumulative.searchsorted(sampling.top_p * cumulative[-1])) + 1
    if sampling.min_p > 0.0:  # relative to the first, which is 1
        keep = min(keep, max(1, int((probs >= sampling.min_p).sum())))
    return Distribution(ids[:keep].tolist(), (probs[:keep] / cumulative[keep - 1]).tolist())


def _top_ids(logits: Floats, k: int) -> NDArray[np.intp]:
    """Ids of the k largest logits of a large vocabulary, perhaps with some of the next ones.

    At least k logits reach the k-th largest of the maxima of disjoint columns, so those that do are
    all that matter; only the few columns are looked into that hold one.
    """
    n = logits.size
    width = _BLOCKS if n % _COLUMNS else _COLUMNS
    if 2 * k > width:
        return np.argpartition(logits, max(0, n - k))[max(0, n - k) :]
    table = logits[: n - n % width].reshape(-1, width)
    maxima = np.maximum.reduce(table, axis=0)
    if width == _BLOCKS:
        return (logits >= _bound(maxima, k)).nonzero()[0]
    few = np.maximum.reduce(maxima.reshape(-1, _BLOCKS)) if 2 * k <= _BLOCKS else maxima
    bound = _bound(few, k)
    columns = (maxima >= bound).nonzero()[0]
    rows, at = (table.take(columns, axis=1) >= bound).nonzero()
    ids: NDArray[np.intp] = rows * _COLUMNS + columns[at]
    return ids


def _bound(maxima: Floats, k: int) -> np.float32:
    """The k-th largest, or the lowest number where that was masked out."""
    return max(np.partition(maxima, -k)[-k], _LOWEST)
