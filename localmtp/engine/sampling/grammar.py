"""Sampling under a grammar: forbidden tokens are masked before a token is chosen."""

from __future__ import annotations

import numpy as np

from localmtp.engine.llama import Floats, Grammar, TokenIds
from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler
from localmtp.engine.sampling.truncation import Truncation
from localmtp.errors import LocalmtpError

_LIKELY = 64
"""Tokens tried before the whole vocabulary: checking 262,144 takes longer than a pass of many
models."""


class UnsatisfiableError(LocalmtpError):
    """No token satisfies the grammar."""


class ConstrainedSampler:
    """Chooses with another sampler among the tokens that a grammar allows.

    The target's distribution is truncated, then masked; where nothing is left of it, the whole
    vocabulary is masked. Drafts are not masked: acceptance is exact for any draft, so forbidden
    tokens are simply rejected.

    Args:
        inner: chooses.
        sampling: its parameters.
        grammar: at its start.
    """

    def __init__(self, inner: Sampler, sampling: SamplingParams, grammar: Grammar) -> None:
        self._inner = inner
        greedy = SamplingParams(1.0, top_k=_LIKELY, top_p=1.0)
        truncation = Truncation(sampling if sampling.temperature > 0 else greedy)
        self._truncated = truncation.of
        self._grammar = grammar

    def propose(self, logits: Floats) -> Proposal:
        """Summarizes with the inner sampler."""
        return self._inner.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draws with the inner sampler."""
        return self._inner.draw(proposal, draft)

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verifies on masked logits with the inner sampler.

        Raises:
            UnsatisfiableError: no token is allowed.
        """
        masked = np.full_like(logits, float("-inf"))
        state = self._grammar.clone()
        for row, drafted in enumerate([*draft.tokens, None]):
            ids = self._allowed(logits[row], state)
            masked[row, ids] = logits[row, ids]
            if drafted is None or drafted not in ids:
                break  # rejected; later rows are not needed
            state.accept(drafted)
        accepted, next_token = self._inner.accept(masked, draft)
        for token in (*draft.tokens[:accepted], next_token):
            self._grammar.accept(token)
        return accepted, next_token

    def _allowed(self, logits: Floats, state: Grammar) -> TokenIds:
        ids = state.allowed(self._truncated(logits).tokens())
        if not ids.size:
            everything = np.arange(logits.size, dtype=np.int32)
            ids = state.allowed(everything[np.isfinite(logits)])
        if not ids.size:
            raise UnsatisfiableError("no text satisfies the schema")
        return ids
