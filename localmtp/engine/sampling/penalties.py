"""Penalties for repetition, applied before truncation.

A penalty at a position depends on the tokens before it, drafted ones included, so it is applied row
by row. It changes p before the acceptance rule compares p with q, and drafting stays exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Draft, Proposal

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.sampling.params import SamplingParams
    from localmtp.engine.sampling.sampler import Sampler

_MAX_LOGIT = 1e30
"""Bound of penalized logits: within 32 bits whatever the penalty."""

_LAST_N = 64
"""Tokens to which the repeat penalty applies, as in llama.cpp."""


class PenalizedSampler:
    """Chooses as another sampler does, from penalized logits.

    The repeat penalty divides positive logits, and multiplies negative ones, of tokens among the
    last 64 of prompt and answer (Keskar et al. 2019, arXiv:1909.05858). Presence and frequency
    penalties are subtracted from the logits of tokens in the answer, once and by their count, as
    in the OpenAI API. Biases are added.

    Args:
        inner: chooses.
        sampling: the penalties.
        prompt: token ids before the answer.
    """

    def __init__(self, inner: Sampler, sampling: SamplingParams, prompt: Sequence[int]) -> None:
        self._inner = inner
        self._repeat = sampling.repeat_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._bias = dict(sampling.logit_bias)
        self._recent = [token for token in prompt[-_LAST_N:] if token >= 0]
        self._counts: dict[int, int] = {}
        self._drafted: list[int] = []

    def propose(self, logits: Floats) -> Proposal:
        """Summarizes penalized logits, as the target will penalize its own."""
        ids, before = self._penalize(logits, self._drafted)
        proposal = self._inner.propose(logits)
        logits[ids] = before
        return proposal

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draws with the inner sampler."""
        token = self._inner.draw(proposal, draft)
        self._drafted.append(token)
        return token

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verifies on penalized logits with the inner sampler; restores them afterwards."""
        undo = [self._penalize(row, draft.tokens[:i]) for i, row in enumerate(logits)]
        accepted, next_token = self._inner.accept(logits, draft)
        for row, (ids, before) in zip(logits, undo, strict=True):
            row[ids] = before
        self._drafted.clear()
        for token in (*draft.tokens[:accepted], next_token):
            self._counts[token] = self._counts.get(token, 0) + 1
            self._recent.append(token)
        del self._recent[:-_LAST_N]
        return accepted, next_token

    def _penalize(self, logits: Floats, drafted: Sequence[int]) -> tuple[NDArray[np.intp], Floats]:
        """Penalizes a row in place.

        Args:
            logits: [n_vocab].
            drafted: draft tokens before its position.

        Returns:
            Ids of the changed entries, and their values before.
        """
        recent = {*self._recent, *drafted} if self._repeat != 1.0 else set()
        counts = self._counts
        if drafted:
            counts = dict(counts)
            for token in drafted:
                counts[token] = counts.get(token, 0) + 1
        changed = np.array([*{*recent, *counts, *self._bias}], np.intp)
        changed = changed[changed < logits.size]
        before = logits[changed]
        after = before.astype(np.float64)
        repeated = np.array([token in recent for token in changed.tolist()], bool)
        after[repeated] *= np.where(after[repeated] > 0, 1 / self._repeat, self._repeat)
        count = np.array([counts.get(token, 0) for token in changed.tolist()])
        after -= self._frequency * count + self._presence * (count > 0)
        after += [self._bias.get(token, 0.0) for token in changed.tolist()]
        logits[changed] = np.clip(after, -_MAX_LOGIT, _MAX_LOGIT)
        return changed, before
