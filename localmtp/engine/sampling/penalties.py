"""Penalties for repetition, applied before truncation.

A penalty at a position depends on the tokens before it, drafted ones included, so it is applied row
by row. It changes p before the acceptance rule compares p with q, and drafting stays exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Draft, Proposal

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.sampling.params import SamplingParams
    from localmtp.engine.sampling.sampler import Sampler

Ids = NDArray[np.intp]
Number = TypeVar("Number", np.intp, np.float64)

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
        self._table = _PenalizedTokens()
        for token, bias in sampling.logit_bias:
            row = self._table.row(token)
            self._table.bias[row] = bias
        self._recent = deque[int]()
        if self._repeat != 1.0:
            for token in prompt[-_LAST_N:]:
                if token >= 0:
                    self._remember(token)
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
            row = self._table.row(token)
            self._table.count[row] += 1
            if self._repeat != 1.0:
                self._remember(token)
        return accepted, next_token

    def _remember(self, token: int) -> None:
        """Adds a token to those to which the repeat penalty applies; the oldest leaves them."""
        self._recent.append(token)
        row = self._table.row(token)
        self._table.recent[row] += 1
        if len(self._recent) > _LAST_N:
            row = self._table.row(self._recent.popleft())
            self._table.recent[row] -= 1

    def _penalize(self, logits: Floats, drafted: Sequence[int]) -> tuple[Ids, Floats]:
        """Penalizes a row in place.

        Args:
            logits: [n_vocab].
            drafted: draft tokens before its position.

        Returns:
            Ids of the changed entries, and their values before.
        """
        table = self._table
        for row in (rows := [table.row(token) for token in drafted]):
            table.count[row] += 1
            table.recent[row] += 1
        used: slice | Ids = slice(len(table))
        if table.largest >= logits.size:  # biases of tokens that are not in the vocabulary
            used = (table.ids[used] < logits.size).nonzero()[0]
        ids, count = table.ids[used], table.count[used]
        before = logits[ids]
        after = before.astype(np.float64)
        if self._repeat != 1.0:
            factors = np.where(after > 0, 1 / self._repeat, self._repeat)
            np.multiply(after, factors, out=after, where=table.recent[used] > 0)
        after -= self._frequency * count + self._presence * (count > 0)
        after += table.bias[used]
        logits[ids] = np.clip(after, -_MAX_LOGIT, _MAX_LOGIT)
        for row in rows:
            table.count[row] -= 1
            table.recent[row] -= 1
        return ids, before


class _PenalizedTokens:
    """The tokens that are penalized, one a row, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self.largest = -1
        """The largest id."""
        self.ids = np.zeros(256, np.intp)
        self.count = np.zeros(256, np.intp)
        """Occurrences in the answer."""
        self.recent = np.zeros(256, np.intp)
        """Occurrences among the last tokens of prompt and answer."""
        self.bias = np.zeros(256)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, token: int) -> int:
        """Returns the row of a token, a new one if it has none, which may replace the columns."""
        found = self._rows.get(token)
        if found is None:
            found = self._rows[token] = len(self._rows)
            if found == self.ids.size:
                self.ids, self.count = _doubled(self.ids), _doubled(self.count)
                self.recent, self.bias = _doubled(self.recent), _doubled(self.bias)
            self.ids[found] = token
            self.largest = max(self.largest, token)
        return found


def _doubled(column: NDArray[Number]) -> NDArray[Number]:
    return np.concatenate((column, np.zeros_like(column)))
