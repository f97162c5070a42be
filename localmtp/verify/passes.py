"""Whether a pass over several rows, and a cache rolled back, equal decoding row by row.

The answer's tokens are known beforehand and fed again: row by row as the reference, in passes of
several rows to see what rounding alone does, and with planted rejections, after which logits and
hidden rows must be what they would be had the rejected tokens never been there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from localmtp.engine.decoding.drafter import DraftSlot, MTPDrafter
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.llama import Floats, TokenIds
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.sampler import Draft, Greedy, Proposal

_TOP = 8
"""Logits compared at each position: those that can become the next token."""

_PASSES = ((1, 1), (3, 3), (8, 8))
_REJECTIONS = ((0, 3), (1, 3), (0, 1), (2, 4), (7, 8), (3, 8))
"""Draft tokens that are right, and draft tokens in all, pass after pass."""

_SAFETY = 2.0
"""The largest of a few hundred differences is not the largest that will ever occur."""

_LEAST_NOISE = 0.05
"""Assumed where less was seen. Most passes agree to the last bit; then a sum differs in it, an
activation is rounded to another of the 255 steps that quantized products have, and logits jump: on
nano by 0.09 at one of some hundred positions."""

_MOST_NOISE = 1.0
"""Rounding that moves a logit gap by a whole unit would change odds by a factor of e: that is no
rounding, and no excuse for a different token."""

_MOST_HIDDEN_ERROR = 0.3
"""Relative; rounding stays within a few hundredths, another position's row is about 1 away."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the target says at one position."""

    ids: TokenIds
    logits: Floats
    """[len(ids)]: the largest, in the order of `ids`."""
    hidden: Floats
    """[n_embd]."""


@dataclass(frozen=True, slots=True)
class Passes:
    """What was found; logit differences are of gaps between logits, so shifts do not count."""

    positions: int
    noise: float
    """Largest difference between passes of several rows and rows one by one."""
    rejections: int
    """Planted ones."""
    after_rejection: float
    """Largest difference after them."""
    hidden_error: float
    """Largest relative distance of a hidden row from its reference."""
    drafter_listens: bool
    """Whether the drafter's proposal depends on the hidden row."""

    @property
    def bound(self) -> float:
        """A logit gap below it may be decided either way by rounding."""
        return _SAFETY * max(self.noise, _LEAST_NOISE)

    @property
    def passed(self) -> bool:
        """Whether only rounding was seen."""
        return (
            self.noise < _MOST_NOISE
            and self.after_rejection <= self.bound
            and self.hidden_error < _MOST_HIDDEN_ERROR
            and self.drafter_listens
        )


def check_passes(pair: Pair, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Passes:
    """Feed answers again, row by row, in passes, and with planted rejections.

    Args:
        pair: loaded.
        texts: prompts with their answers, as token ids.
    """
    noise = after = hidden = 0.0
    positions = rejections = 0
    sequence = pair.sequences[0]
    for prompt, tokens in texts:
        reference = one_by_one(sequence, prompt, tokens)
        positions += len(tokens)
        for difference, error in _walk(sequence, prompt, tokens, reference, _PASSES):
            noise, hidden = max(noise, difference), max(hidden, error)
        for difference, error in _walk(sequence, prompt, tokens, reference, _REJECTIONS):
            after, hidden = max(after, difference), max(hidden, error)
            rejections += 1
    return Passes(positions, noise, rejections, after, hidden, _listens(pair, texts[-1][1][-1]))


def one_by_one(sequence: TargetSequence, prompt: Sequence[int], tokens: Sequence[int]) -> list[Row]:
    """Row i is what follows tokens[: i + 1], each decoded in a pass of its own."""
    prefill(sequence, prompt)
    rows = []
    for token in tokens:
        logits = sequence.verify(token)[0]
        ids = np.argpartition(logits, -_TOP)[-_TOP:].astype(np.int32)
        # Read from the context: what `commit` makes of it is among the things to be checked.
        rows.append(Row(ids, logits[ids], sequence.context.hidden()[0].copy()))
        sequence.commit(token, (), 0)
    return rows


def _walk(
    sequence: TargetSequence,
    prompt: Sequence[int],
    tokens: Sequence[int],
    reference: Sequence[Row],
    plan: Sequence[tuple[int, int]],
) -> Iterator[tuple[float, float]]:
    """Go through an answer in passes.

    Yields:
        Of each pass, the largest difference of its rows from the reference, and the relative
        error of the hidden row it left.
    """
    prefill(sequence, prompt)
    at = 0
    for right, length in cycle(plan):
        if at + length >= len(tokens):
            return
        kept = tokens[at + 1 : at + 1 + right]
        planted = [_another(prompt, tokens[at + 1 + i]) for i in range(right, length)]
        logits = sequence.verify(tokens[at], [*kept, *planted])
        rows = reference[at : at + right + 1]
        difference = max(_gap(row, logits[i]) for i, row in enumerate(rows))
        sequence.commit(tokens[at], kept, length)
        expected = rows[-1].hidden
        error = np.linalg.norm(sequence.hidden - expected) / np.linalg.norm(expected)
        yield difference, float(error)
        at += right + 1


def _another(prompt: Sequence[int], token: int) -> int:
    """A token of the prompt that is not this one."""
    return next((other for other in reversed(prompt) if other != token), 0)


def _gap(row: Row, logits: Floats) -> float:
    """By how much the gaps between the largest logits have moved."""
    moved = logits[row.ids] - row.logits
    return float(moved.max() - moved.min())


class _Probe(Greedy):
    """Remembers how sure the drafter was."""

    confidence = 0.0

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        self.confidence = proposal.confidence
        return super().draw(proposal, draft)


def _listens(pair: Pair, last: int) -> bool:
    """Whether an MTP drafter drafts differently without the target's hidden row."""
    if not isinstance(pair.drafter, MTPDrafter):
        return True
    found = []
    sequence = pair.sequences[0]
    hidden = sequence.hidden.copy()
    for row in (hidden, np.zeros_like(hidden)):
        np.copyto(sequence.hidden, row)
        slot = DraftSlot(sequence, probe := _Probe(), policy := FixedPolicy(1), last)
        policy.begin_round(1, RoundPlan())
        pair.drafter.propose([slot])
        found.append((slot.draft.tokens, probe.confidence))
    np.copyto(sequence.hidden, hidden)
    return found[0] != found[1]
