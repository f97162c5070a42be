"""Sampling with noise that draft and target share: an answer depends on its seed alone.

The Gumbel-max trick draws from p as argmax(log p + g) with independent Gumbel noise g for every
token. Here g is a function of the seed, the position and the token id, and the drafter uses the
same: its token is argmax(log q + g). A draft token is accepted when it is the target's own, as in
greedy decoding, so drafts never change the output (Gumbel coupling; Daliri, Musco and Suresh 2024,
arXiv:2408.07978). Fewer drafts are accepted than with min(1, p/q): on a pair trained on source
code, at temperature 1 and positions 1 to 3, 0.64, 0.71 and 0.72 instead of 0.69, 0.76 and 0.77.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log
from secrets import randbits
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Distribution, Draft, Proposal
from localmtp.engine.sampling.noise import (
    MASK,
    SCALE,
    STEP,
    complements,
    exponential,
    exponentials,
    mix,
)
from localmtp.engine.sampling.truncation import distribution, truncation_of
from localmtp.engine.sampling.whole.dense import DenseDistribution
from localmtp.engine.sampling.whole.rows import exact_weights

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.sampling.params import SamplingParams

_MANY = 96
"""Candidates up to which lists are faster than arrays."""

_ROUNDING = 1e-4
"""Bound of the relative rounding of weights and noise in 32 bits."""


class GumbelSampler:
    """Temperature above 0; an answer depends on its seed, not on its drafts.

    Args:
        sampling: with a temperature above 0; without a seed, a random one is chosen.
        position: of the answer's first token in the sequence. An answer that is resumed continues
            with the noise of its positions.
        candidates: rows are `Candidates` of a device, instead of logits.
    """

    def __init__(
        self, sampling: SamplingParams, position: int, *, candidates: bool = False
    ) -> None:
        self._truncated = truncation_of(sampling, candidates=candidates)
        self._sampling = sampling
        seed = randbits(64) if sampling.seed is None else sampling.seed
        self._key = mix(mix(seed & MASK) + (seed >> 64 & MASK) & MASK)
        self._position = position
        self._noise: dict[int, dict[int, float]] = {}
        """Noise of few tokens by position, from the draft until it is verified."""
        self._dense_noise: dict[int, NDArray[np.float32]] = {}
        """The same of whole vocabularies."""

    def propose(self, logits: Floats) -> Proposal:
        """Returns the drafter's distribution, with the target's temperature and truncation."""
        q = self._truncated(logits)
        return Proposal(q.confidence, distribution=q)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Takes the drafter's choice under the noise of the token's position."""
        q = proposal.distribution
        assert q is not None
        token = self._choose(q, self._position + len(draft.tokens))
        draft.tokens.append(token)
        return token

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accepts while the draft is the target's choice under the same noise."""
        first = self._position
        for row, drafted in enumerate((*draft.tokens, -1)):
            token = self._choose(self._truncated(logits[row]), first + row, logits[row])
            if token != drafted:
                self._position = first + row + 1
                self._noise.clear()
                self._dense_noise.clear()
                return row, token
        raise AssertionError("no token has the id -1")

    def margin(self, logits: Floats, one: int, other: int) -> float:
        """Change of logits that could turn one choice of the next token into another.

        Args:
            logits: [n_vocab] of the next position.
            one: a token id.
            other: a token id.

        Returns:
            The difference of their perturbed logits, or the change that truncation needs to exclude
            the preferred one if that is less; if truncation excludes one of them, the change that
            includes it.
        """
        p = self._truncated(logits)
        absent = [token for token in (one, other) if token not in p.ids]
        if absent:
            lowest = min(float(logits[token]) for token in p.ids)
            return max(self._to_bound(logits, token, lowest) for token in absent)
        noise = exponential(self._position_key(self._position), p.ids)
        scores = {
            token: log(prob) - log(e) for token, prob, e in zip(p.ids, p.probs, noise, strict=True)
        }
        less, more = sorted((one, other), key=scores.__getitem__)
        gap = (scores[more] - scores[less]) * self._sampling.temperature
        rivals = [token for token in p.ids if token != more]
        excluded = np.delete(logits, p.ids)
        if max(rivals, key=scores.__getitem__) != less or not excluded.size:
            return gap
        return min(gap, self._to_bound(logits, more, float(excluded.max())))

    def _to_bound(self, logits: Floats, token: int, edge: float) -> float:
        """Change of logits that moves a token across the bound of truncation.

        Either its own logit reaches the next one on the other side, or the tokens before it gain or
        lose so much of their probability that they do or do not make up top-p.

        Args:
            logits: [n_vocab].
            token: its id.
            edge: the lowest logit that is included, or the highest one that is excluded.
        """
        sampling = self._sampling
        distance = abs(edge - float(logits[token]))
        ranked = distribution(logits, replace(sampling, top_p=1.0, min_p=0.0))
        if sampling.top_p >= 1.0 or token not in ranked.ids:
            return distance
        before = sum(ranked.probs[: ranked.ids.index(token)])
        surplus = _log_odds(before) - _log_odds(sampling.top_p)
        return min(distance, abs(surplus) * sampling.temperature)

    def _position_key(self, position: int) -> int:
        return mix(self._key + position * STEP & MASK)

    def _choose(self, p: Distribution, position: int, logits: Floats | None = None) -> int:
        """argmax(log p + g), as the largest p / e with e = exp(-g) exponentially distributed.

        Args:
            p: the distribution.
            position: of the token.
            logits: the target's, from which p was computed: they decide what is close in 32 bits. A
                draft may be decided by rounding, its verification may not.
        """
        if isinstance(p, DenseDistribution):
            return self._choose_of_many(p, position, logits)
        ids, probs = p.ids, p.probs
        if len(ids) == 1:
            return ids[0]
        if len(ids) > _MANY:
            noises = exponentials(self._position_key(position), np.asarray(ids))
            return ids[int((np.asarray(probs) / noises).argmax())]
        noise = self._noise_of(ids, position, drafting=logits is None)
        best, most = ids[0], 0.0
        for token, p_of, e in zip(ids, probs, noise, strict=True):
            ratio = p_of / e
            if ratio > most:
                best, most = token, ratio
        return best

    def _noise_of(self, ids: Sequence[int], position: int, *, drafting: bool) -> Sequence[float]:
        """Returns the noise of few tokens; the target mostly needs what the draft needed."""
        if known := self._noise.get(position):
            if absent := [token for token in ids if token not in known]:
                known.update(
                    zip(absent, exponential(self._position_key(position), absent), strict=True)
                )
            return [known[token] for token in ids]
        noise = exponential(self._position_key(position), ids)
        if drafting:
            self._noise[position] = dict(zip(ids, noise, strict=True))
        return noise

    def _choose_of_many(self, p: DenseDistribution, position: int, logits: Floats | None) -> int:
        key, weights, few = self._position_key(position), p.weights, p.support
        if few is None:
            if (bounds := self._dense_noise.get(position)) is None or bounds.size < weights.size:
                bounds = self._dense_noise[position] = complements(key, weights.size)
            # No token's weight divided by its noise exceeds this; that of the best one is close.
            most = weights / bounds[: weights.size]
            best = int(most.argmax())
            (noise,) = exponential(key, (best,))
            least = float(weights[best]) * SCALE / noise * (1.0 - _ROUNDING)
            few = (most >= least).nonzero()[0]
        exact: NDArray[np.floating] = weights[few]
        if logits is not None:
            exact = exact_weights(logits[few], float(logits[p.first]), self._sampling.temperature)
        return int(few[(exact / exponentials(key, few)).argmax()])


def _log_odds(probability: float) -> float:
    bounded = min(1 - 1e-9, max(1e-9, probability))
    return log(bounded / (1 - bounded))
