"""A draft model: any smaller model with the target's vocabulary, on a KV cache of its own.

Speculative decoding as in Leviathan et al. 2023 and llama.cpp's `-md`. Its cache lags behind the
target's: tokens that it has not seen are decoded together with the first draft step, in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import DrafterState
from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.engine.sampling.distribution import Draft

_MIN_SHARED = 64
"""Tokens that taking over another sequence's prefix must save."""


@dataclass(slots=True)
class _DraftState:
    """One sequence in the draft model's cache."""

    text: list[int] = field(default_factory=list)
    """The target's tokens that the draft model reads."""
    read: int = 0
    """Number of the target's tokens that `text` was made from."""
    cells: int = 0
    """Number of tokens in the cache: a prefix of `text`, during a round followed by the pending
    token and drafts."""


class ModelDrafter:
    """Drafts with a model of its own for all sequences of a target.

    Media, and tokens beyond its vocabulary, are left out of its context, so positions in its cache
    are its own. A sequence that outgrows its context is not drafted for.

    Args:
        model: has the target's vocabulary, and no recurrent state.
        target: decides the number of sequences, their length, threads and type of cache.

    Raises:
        LocalmtpError: libllama cannot create the context.
    """

    def __init__(self, model: Model, target: TargetContext) -> None:
        sequences = target.n_sequences
        self.n_ctx = min(target.n_ctx, model.n_ctx_train)
        """Positions of each sequence; no drafts beyond."""
        self._most = max(sequences, min(target.max_prefill_rows, self.n_ctx))
        self.context = self._context = Context(
            model,
            n_ctx=self.n_ctx * sequences,
            n_batch=self._most,
            n_outputs=sequences,
            threads=target.threads.most,
            full_window=True,  # drafts are rolled back to any position
            kv_type=target.kv_type,
            sequences=sequences,
            hidden=False,
        )
        target.threads.follow(self._context.set_threads)
        self._batch = Batch(self._most)
        self._states = [_DraftState() for _ in range(sequences)]
        size = target.vocab.size
        self._n_vocab = min(model.vocab.size, size)
        suppressed = target.vocab.suppressed
        self._suppressed = suppressed[suppressed < self._n_vocab]
        self._padded: Floats | None = None
        """[sequences, n_vocab of the target] if the draft model's vocabulary is smaller."""
        if self._n_vocab < size:
            self._padded = np.full((sequences, size), -np.inf, np.float32)

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Drafts until the policy of every slot stops; see `Drafter.propose`."""
        active = [slot for slot in slots if slot.policy.should_draft() and self._can_draft(slot)]
        if not active:
            return
        batch, context, states, most = self._batch, self._context, self._states, self.n_ctx
        self._lay_out_unseen(active)
        for slot in active:
            slot.draft = Draft()
        while True:
            context.decode(batch)
            logits = None
            going = 0
            for row, slot in enumerate(active):
                draft, policy, rows = slot.draft, slot.policy, slot.rows
                draft.steps += 1
                if rows is None:
                    rows = logits = self._logits() if logits is None else logits
                proposal = slot.sampler.propose(rows[row])
                if policy.should_verify(proposal.confidence):
                    slot.sampler.draw(proposal, draft)
                    if policy.should_draft() and states[slot.sequence.index].cells < most:
                        active[going] = slot
                        going += 1
            if not going:
                return
            del active[going:]
            batch.clear()
            for slot in active:
                index = slot.sequence.index
                state = states[index]
                batch.add(slot.draft.tokens[-1:], state.cells, all_logits=True, sequence=index)
                state.cells += 1

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Decodes the new tokens if drafts will follow; see `Drafter.prefilled`."""
        index, tokens = sequence.index, sequence.tokens
        state = self._states[index]
        text = self._readable(tokens)
        # All tokens are compared: the target may have taken a prefix over from another sequence.
        kept = _shared_prefix(state.text[: state.cells], text)
        state.text, state.read = text, len(tokens)
        self._cut(index, kept)
        if sequence.drafts and len(text) <= self.n_ctx:
            self._share(index)
            self._decode_unseen(index, len(text))

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """Rolls rejected drafts back; see `Drafter.committed`."""
        sequence = slot.sequence
        state, tokens = self._states[sequence.index], sequence.tokens
        state.text += self._readable(tokens[state.read :])
        state.read = len(tokens)
        self._cut(sequence.index, len(state.text))

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """Returns its cache, which may lag behind the target's."""
        index = sequence.index
        return (DrafterState(self._context.copy_sequence(index), self._states[index].cells),)

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """Replaces its cache."""
        index, text = sequence.index, self._readable(sequence.tokens)
        self._cut(index, 0)
        self._states[index] = _DraftState(text, len(sequence.tokens))
        if len(states) != 1 or not self._context.restore_sequence(states[0].cache, index):
            return False
        self._states[index].cells = states[0].begin
        return True

    def close(self) -> None:
        """Frees the batch and the context."""
        self._batch.close()
        self._context.close()

    def _can_draft(self, slot: DraftSlot) -> bool:
        text = self._states[slot.sequence.index].text
        return slot.pending < self._n_vocab and len(text) < self.n_ctx

    def _readable(self, tokens: Sequence[int]) -> list[int]:
        """Tokens that the draft model knows: neither media nor beyond its vocabulary."""
        n_vocab = self._n_vocab
        return [token for token in tokens if 0 <= token < n_vocab]

    def _lay_out_unseen(self, slots: Sequence[DraftSlot]) -> None:
        """Makes a batch of unseen and pending tokens, with a row of logits for each slot."""
        states, rows = self._states, 0
        for slot in slots:
            state = states[slot.sequence.index]
            rows += len(state.text) + 1 - state.cells
        batch = self._batch
        for slot in slots:
            index = slot.sequence.index
            state = states[index]
            if rows > self._most:
                self._decode_unseen(index, len(state.text))
        batch.clear()
        for slot in slots:
            index = slot.sequence.index
            state = states[index]
            unseen = [*state.text[state.cells :], slot.pending]
            batch.add(unseen, state.cells, all_logits=False, sequence=index)
            state.cells += len(unseen)

    def _decode_unseen(self, index: int, end: int) -> None:
        """Decodes the text of a sequence up to a position, without drafting."""
        state, batch = self._states[index], self._batch
        while state.cells < end:
            part = state.text[state.cells : min(end, state.cells + self._most)]
            batch.fill(part, state.cells, all_logits=False, sequence=index)
            self._context.decode(batch)
            state.cells += len(part)

    def _share(self, index: int) -> None:
        """Takes over a longer prefix of the text from another sequence, if there is one."""
        state = self._states[index]
        longest, source = state.cells + _MIN_SHARED, -1
        for other, offered in enumerate(self._states):
            if other != index and offered.cells >= longest:
                length = _shared_prefix(offered.text[: offered.cells], state.text)
                if length >= longest:
                    longest, source = length, other
        if source >= 0:
            self._cut(index, 0)
            self._context.share(source, index, longest)
            state.cells = longest

    def _cut(self, index: int, length: int) -> None:
        state, window = self._states[index], self._context.model.n_swa
        if state.cells > length:
            # A loaded state has no cells outside of the window.
            if window and self._context.earliest_position(index) > max(0, length - window + 1):
                length = 0
            self._context.remove_from(length, index)
            state.cells = length

    def _logits(self) -> Floats:
        """Logits [rows, n_vocab of the target] of the last pass."""
        logits = self._context.logits()
        if self._suppressed.size:
            logits[:, self._suppressed] = -np.inf
        if self._padded is None:
            return logits[:, : self._n_vocab]
        padded = self._padded[: len(logits)]
        padded[:, : self._n_vocab] = logits
        return padded


def _shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    return next(i for i in range(most) if one[i] != other[i])
