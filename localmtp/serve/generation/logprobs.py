"""Log-probabilities of generated tokens, computed from the rows that the sampler accepts from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from localmtp.engine.llama import Floats, Vocab
from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler
from localmtp.engine.sampling.truncation import Truncation

_FLOOR = -9999.0
"""Replaces minus infinity, which JSON cannot represent; OpenAI's API sends the same number."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One candidate token."""

    data: bytes
    logprob: float
    """Natural logarithm of the target's probability, before temperature and truncation."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The token at one position, with the most probable candidates there."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


class LogprobsSampler:
    """Wraps a sampler and scores the tokens that it chooses.

    Args:
        inner: chooses the tokens.
        vocab: of the target.
        top: number of alternatives per token.
    """

    def __init__(self, inner: Sampler, vocab: Vocab, top: int) -> None:
        self._inner = inner
        self._vocab = vocab
        self._top = top
        self._best = Truncation(SamplingParams(1.0, top_k=max(1, top), top_p=1.0)).of
        self.scores: deque[TokenLogprobs] = deque()
        """One entry per chosen token, in order; the reader removes them."""

    def propose(self, logits: Floats) -> Proposal:
        """Delegates to the inner sampler."""
        return self._inner.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Delegates to the inner sampler."""
        return self._inner.draw(proposal, draft)

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verifies with the inner sampler, and appends the scores of the chosen tokens."""
        accepted, next_token = self._inner.accept(logits, draft)
        chosen = [*draft.tokens[:accepted], next_token]
        self.scores.extend(self._score(row, token) for row, token in zip(logits, chosen))  # noqa: B905 - rows of rejected tokens are left over
        return accepted, next_token

    def _score(self, row: Floats, token: int) -> TokenLogprobs:
        top = self._best(row).ids
        highest = row[top[0]]
        total = highest + np.log(np.exp(row - highest).sum())

        def logprob(token_id: int) -> TokenLogprob:
            data = self._vocab.piece(token_id, special=True)
            return TokenLogprob(data, max(_FLOOR, float(row[token_id] - total)))

        return TokenLogprobs(logprob(token), tuple(logprob(i) for i in top[: self._top]))
