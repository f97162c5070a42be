"""Checks that multi-row passes and rolling back the cache equal decoding row by row.

The tokens of known answers are decoded again: row by row as the reference, in passes of several
rows to measure rounding alone, and with forced rejections. After those, logits and hidden states
must equal the reference within rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from localmtp.engine.decoding.drafter import DraftSlot, MTPDrafter
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.drafters.head import HeadDrafter
from localmtp.engine.llama import Floats, TokenIds
from localmtp.engine.media import PlacedMedia
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.sampler import Greedy
from localmtp.verify.time_limit import Stage

_TOP = 8
"""Number of largest logits compared at each position: candidates for the next token."""

_PASSES = ((1, 1), (3, 3), (8, 8))
_REJECTIONS = ((0, 3), (1, 3), (0, 1), (2, 4), (7, 8), (3, 8))
"""Correct draft tokens and draft tokens in all, for successive passes."""

_SAFETY = 2.0
"""Factor on the largest of a few hundred differences, which is not the largest possible."""

_LEAST_NOISE = 0.05
"""Lower bound of the assumed rounding. Most passes agree to the last bit; where a sum differs, an
activation may be quantized to the next of 255 steps, and logits jump: on nano by 0.09 at one of a
few hundred positions."""

_MOST_NOISE = 1.0
"""Upper bound of rounding: a logit gap that moves by 1 changes odds by a factor of e, which is
no rounding."""

_MOST_HIDDEN_ERROR = 0.3
"""Upper bound of the relative error of a hidden state. Rounding causes a few hundredths; the hidden
state of another position is at a distance of about 1."""


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """The target's output at one position."""

    ids: TokenIds
    logits: Floats
    """[len(ids)]: the largest logits, in the order of `ids`."""
    hidden: Floats
    """[n_embd]; zeros if the context computes none."""


@dataclass(frozen=True, slots=True)
class PassCheck:
    """Result of the check. Differences are of gaps between logits, so that shifts do not count."""

    positions: int
    noise: float
    """Largest difference between passes of several rows and rows one by one."""
    rejections: int
    """Number of forced rejections."""
    after_rejection: float
    """Largest difference after a forced rejection."""
    hidden_error: float
    """Largest relative distance of a hidden state from its reference."""
    drafter_listens: bool | None
    """Whether the drafter's proposal depends on the hidden state; None if interrupted before."""
    has_hidden: bool = True
    """Whether there are hidden states: False for draft models and copies, which read none."""

    @property
    def bound(self) -> float:
        """Logit gap below which rounding may decide either way; the most, if interrupted."""
        noise = _MOST_NOISE if self.drafter_listens is None else max(self.noise, _LEAST_NOISE)
        return _SAFETY * noise

    @property
    def passed(self) -> bool:
        """Whether rounding explains all differences."""
        return (
            self.noise < _MOST_NOISE
            and self.after_rejection <= self.bound
            and self.hidden_error < _MOST_HIDDEN_ERROR
            and self.drafter_listens is not False
        )


def check_passes(
    pair: Pair,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    media: Sequence[PlacedMedia] = (),
    stage: Stage | None = None,
) -> PassCheck:
    """Decode answers again: row by row, in passes, and with forced rejections.

    Args:
        pair: loaded.
        texts: prompts and their answers, as token ids.
        media: images and sounds whose rows every prompt has.
        stage: limits the time; None for no limit.
    """
    noise = after = hidden = 0.0
    positions = rejections = 0
    listens = None
    sequence, stage = pair.sequences[0], stage or Stage()
    with stage.until_interrupted():
        for prompt, tokens in stage.each(texts):
            reference = one_by_one(sequence, prompt, tokens, media)
            positions += len(tokens)
            prefill(sequence, prompt, media)
            for difference, error in _walk(sequence, prompt, tokens, reference, _PASSES):
                noise, hidden = max(noise, difference), max(hidden, error)
            prefill(sequence, prompt, media)
            for difference, error in _walk(sequence, prompt, tokens, reference, _REJECTIONS):
                after, hidden = max(after, difference), max(hidden, error)
                rejections += 1
        if stage.done:
            listens = _reads_hidden_state(pair, tokens[-1])
    computed = pair.target.computes_hidden
    return PassCheck(positions, noise, rejections, after, hidden, listens, computed)


def one_by_one(
    sequence: TargetSequence,
    prompt: Sequence[int],
    tokens: Sequence[int],
    media: Sequence[PlacedMedia] = (),
) -> list[ReferenceRow]:
    """Return the reference; row i follows tokens[: i + 1], each decoded in a pass of its own."""
    prefill(sequence, prompt, media)
    rows = []
    for token in tokens:
        logits = sequence.verify(token)[0]
        ids = np.argpartition(logits, -_TOP)[-_TOP:].astype(np.int32)
        # Read from the context, because `commit` is among the things to check.
        rows.append(ReferenceRow(ids, logits[ids], sequence.context.hidden()[0].copy()))
        sequence.commit(token, (), 0)
    return rows


def _walk(
    sequence: TargetSequence,
    prompt: Sequence[int],
    tokens: Sequence[int],
    reference: Sequence[ReferenceRow],
    plan: Sequence[tuple[int, int]],
) -> Iterator[tuple[float, float]]:
    """Decode an answer in passes, after its prompt.

    Yields:
        For each pass, the largest difference of its rows from the reference, and the relative
        error of the hidden state after it.
    """
    at, context = 0, sequence.context
    for right, length in cycle([one for one in plan if one[1] <= context.max_draft]):
        if at + length >= len(tokens):
            return
        accepted = tokens[at + 1 : at + 1 + right]
        rejected = [_another(prompt, tokens[at + 1 + i]) for i in range(right, length)]
        if context.replays:
            sequence.guard()
        logits = sequence.verify(tokens[at], [*accepted, *rejected])
        rows = reference[at : at + right + 1]
        difference = max(_gap(row, logits[i]) for i, row in enumerate(rows))
        sequence.commit(tokens[at], accepted, length)
        context.replay()
        yield difference, _relative_error(sequence.hidden, rows[-1].hidden)
        at += right + 1


def _relative_error(found: Floats, expected: Floats) -> float:
    length = float(np.linalg.norm(expected))
    return float(np.linalg.norm(found - expected)) / length if length else 0.0


def _another(prompt: Sequence[int], token: int) -> int:
    """Return a token of the prompt other than this one; below 0 are no tokens."""
    return next((other for other in reversed(prompt) if 0 <= other != token), 0)


def _gap(row: ReferenceRow, logits: Floats) -> float:
    """Return the largest change of a gap between the largest logits."""
    moved = logits[row.ids] - row.logits
    return float(moved.max() - moved.min())


class _ConfidenceProbe(Greedy):
    """Records the drafter's confidence."""

    confidence = 0.0

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        self.confidence = proposal.confidence
        return super().draw(proposal, draft)


def _reads_hidden_state(pair: Pair, last: int) -> bool:
    """Return whether an MTP drafter drafts differently without the target's hidden state."""
    if not isinstance(pair.drafter, MTPDrafter | HeadDrafter):
        return True
    found = []
    sequence = pair.sequences[0]
    hidden = sequence.hidden.copy()
    for row in (hidden, np.zeros_like(hidden)):
        np.copyto(sequence.hidden, row)
        slot = DraftSlot(sequence, probe := _ConfidenceProbe(), policy := FixedPolicy(1), last)
        policy.begin_round(1, RoundPlan())
        pair.drafter.propose([slot])
        found.append((slot.draft.tokens, probe.confidence))
    np.copyto(sequence.hidden, hidden)
    return found[0] != found[1]
