"""Speculative sampling: the acceptance rule min(1, p/q).

Leviathan et al. 2023 (arXiv:2211.17192), Chen et al. 2023 (arXiv:2302.01318): a token drawn from
the drafter's distribution q is accepted with probability min(1, p/q), else one is drawn from the
residual max(0, p - q). The result is distributed exactly as p, for any q. No other rule accepts
more (it is a maximal coupling of p and q), but the random numbers that an answer uses depend on its
drafts, so a seed repeats an answer only where the drafts repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from localmtp.engine.sampling.distribution import Distribution, Draft, Proposal, certain
from localmtp.engine.sampling.truncation import truncation_of

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.sampling.params import SamplingParams

_DECAY = 0.95
"""Decay per verified token of the two records below: the last twenty decide."""


class SpeculativeSampler:
    """Temperature above 0, accepted with probability min(1, p/q).

    Which q is accepted more often depends on how sharp target and drafter are. Every verified token
    shows what two of them would have achieved: the drafter's distribution (the overlap of p and q)
    and its argmax alone (p of that token). Later drafts use the one that was recently better. The
    choice depends on earlier rounds only, not on the tokens drawn.

    Args:
        sampling: with a temperature above 0.
        candidates: rows are `Candidates` of a device, instead of logits.
    """

    def __init__(self, sampling: SamplingParams, *, candidates: bool = False) -> None:
        self._truncated = truncation_of(sampling, candidates=candidates)
        self._random = np.random.default_rng(sampling.seed).random
        self._by_sample = self._by_argmax = 0.0

    def propose(self, logits: Floats) -> Proposal:
        """Returns the drafter's distribution, with the target's temperature and truncation."""
        q = self._truncated(logits)
        return Proposal(q.confidence, distribution=q)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draws from the drafter's distribution, or takes its argmax."""
        q = proposal.distribution
        assert q is not None
        draft.offered.append(q)
        if self._by_argmax > self._by_sample:
            q = certain(q.first)
        token = q.at(self._random())
        draft.tokens.append(token)
        draft.distributions.append(q)
        return token

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accepts each token with probability min(1, p/q), or replaces it from the residual."""
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = self._truncated(logits[row])
            self._compare(p, draft.offered[row])
            if self._random() * q.of(drafted) >= p.of(drafted):
                return row, p.minus(q).at(self._random())
        bonus = self._truncated(logits[len(draft.tokens)])
        return len(draft.tokens), bonus.at(self._random())

    def _compare(self, p: Distribution, offered: Distribution) -> None:
        self._by_sample = _DECAY * self._by_sample + p.overlap(offered)
        self._by_argmax = _DECAY * self._by_argmax + p.of(offered.first)
