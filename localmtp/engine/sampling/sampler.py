"""Samplers: draw drafts, and verify them without changing the target's output.

Greedy decoding accepts a draft token if and only if it is the target's argmax. Sampling has two
rules, both exact in distribution; see `AcceptanceRule`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.dry import DrySampler
from localmtp.engine.sampling.gumbel import GumbelSampler
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.penalties import PenalizedSampler
from localmtp.engine.sampling.speculative import SpeculativeSampler
from localmtp.engine.sampling.truncation import COLUMNS, LARGE

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.llama.device_rows import Argmax


def _unknown(_token: int) -> bytes:
    return b"?"


class Sampler(Protocol):
    """Chooses draft tokens and verifies them."""

    def propose(self, logits: Floats) -> Proposal:
        """Summarizes a drafter's logits [n_vocab]."""

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Appends the proposal's token to the draft and returns it."""

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verifies a draft.

        Args:
            logits: the target's [len(draft.tokens) + 1, n_vocab]; row i verifies token i.
            draft: from `draw`.

        Returns:
            Number of accepted draft tokens, and the token after them: the correction, or the bonus
            if all were accepted.
        """


class Greedy:
    """Temperature 0: argmax on both sides."""

    def propose(self, logits: Floats) -> Proposal:
        """Returns the drafter's argmax and approximately its softmax probability.

        A softmax over 262,144 entries costs more than the rest of the round. The sum over maxima of
        columns is a lower bound of its denominator and a by-product of the argmax; if one token
        leads clearly, it is within a few percent.
        """
        n = logits.size
        if n < LARGE:
            token = int(logits.argmax())
            return Proposal(float(1.0 / np.exp(logits - logits[token]).sum()), token)
        rest = n % COLUMNS
        maxima = np.maximum.reduce(logits[: n - rest].reshape(-1, COLUMNS), axis=0)
        if rest:
            np.maximum(maxima[:rest], logits[n - rest :], out=maxima[:rest])
        column = int(maxima.argmax())
        token = column + COLUMNS * int(logits[column::COLUMNS].argmax())
        maxima -= maxima[column]
        return Proposal(1.0 / float(np.add.reduce(np.exp(maxima, out=maxima))), token)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Takes the argmax."""
        draft.tokens.append(proposal.token_id)
        return proposal.token_id

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accepts while the draft is the target's argmax."""
        bits = logits.view(np.int32)
        for row, drafted in enumerate((*draft.tokens, -1)):
            token = int(bits[row].argmax())
            # Integers are compared faster, and positive numbers have the order of their bits.
            if not logits[row, token] > 0:
                token = int(logits[row].argmax())
            if token != drafted:
                return row, token
        raise AssertionError("no token has the id -1")


class DeviceGreedy:
    """Temperature 0, from the most probable token of every row and its probability."""

    def propose(self, row: Argmax) -> Proposal:
        """Returns the drafter's argmax and its softmax probability."""
        return Proposal(row[1], row[0])

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Takes the argmax."""
        draft.tokens.append(proposal.token_id)
        return proposal.token_id

    def accept(self, rows: Sequence[Argmax], draft: Draft) -> tuple[int, int]:
        """Accepts while the draft is the target's argmax."""
        for at, drafted in enumerate(draft.tokens):
            token = rows[at][0]
            if token != drafted:
                return at, token
        return len(draft.tokens), rows[len(draft.tokens)][0]


def make_device_sampler(sampling: SamplingParams, position: int) -> Any:
    """Makes a sampler of rows that a device has chosen from: `Argmax`, or `Candidates`.

    Args:
        sampling: without penalties, and with top-k unless it is greedy.
        position: of the answer's first token in the sequence.
    """
    if sampling.greedy:
        return DeviceGreedy()
    if sampling.shares_noise:
        return GumbelSampler(sampling, position, candidates=True)
    return SpeculativeSampler(sampling, candidates=True)


def make_sampler(
    sampling: SamplingParams,
    prompt: Sequence[int] = (),
    piece: Callable[[int], bytes] = _unknown,
) -> Sampler:
    """Makes a sampler.

    Args:
        sampling: its parameters.
        prompt: token ids before the answer.
        piece: bytes of a token, for DRY's sequence breakers; by default nothing is one.
    """
    sampler: Sampler
    if sampling.greedy:
        sampler = Greedy()
    elif sampling.shares_noise:
        sampler = GumbelSampler(sampling, len(prompt))
    else:
        sampler = SpeculativeSampler(sampling)
    if sampling.dries:
        sampler = DrySampler(sampler, sampling, prompt, piece)
    return PenalizedSampler(sampler, sampling, prompt) if sampling.penalizes else sampler
