"""Log-probabilities of the chosen tokens, read off the rows that the sampler judges."""

from __future__ import annotations

from collections import deque

import numpy as np

from localmtp.engine.llama import Floats, Vocab
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Draft, Proposal, Sampler, Truncation
from localmtp.serve.generation.tasks import Choice, Scored

_FLOOR = -9999.0
"""Stands for minus infinity, which JSON has no word for; OpenAI uses the same number."""


class ScoringSampler:
    """Chooses as another sampler does and scores what it chose.

    Args:
        inner: decides.
        vocab: of the target.
        top: how many alternatives are wanted.
    """

    def __init__(self, inner: Sampler, vocab: Vocab, top: int) -> None:
        self._inner = inner
        self._vocab = vocab
        self._top = top
        self._best = Truncation(SamplingParams(1.0, top_k=max(1, top), top_p=1.0)).of
        self.scores: deque[Scored] = deque()
        """One per chosen token, in order; the reader takes them off."""

    def propose(self, logits: Floats) -> Proposal:
        """As the inner sampler."""
        return self._inner.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """As the inner sampler."""
        return self._inner.draw(proposal, draft)

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """As the inner sampler, and remember the scores."""
        accepted, follower = self._inner.judge(logits, draft)
        chosen = [*draft.tokens[:accepted], follower]
        self.scores.extend(self._score(row, token) for row, token in zip(logits, chosen))  # noqa: B905 - rejected rows are left over
        return accepted, follower

    def _score(self, row: Floats, token: int) -> Scored:
        top = self._best(row).ids
        highest = row[top[0]]
        total = highest + np.log(np.exp(row - highest).sum())

        def choice(token_id: int) -> Choice:
            data = self._vocab.piece(token_id, special=True)
            return Choice(data, max(_FLOOR, float(row[token_id] - total)))

        return Scored(choice(token), tuple(choice(i) for i in top[: self._top]))
