"""Drafts by MTP heads: the last blocks of the target's architecture, each with its own KV cache.

The head of Qwen 3.5, DeepSeek V3, GLM 4.5 and others reads a token with the target's hidden state
before it and predicts the token after it. Its cache holds every token of the text, each with the
target's hidden state; llama.cpp's driver adds them in a pass of their own. Here they wait for the
next draft, whose first step adds them too: a pass of the head less for every round.

A single head takes all steps of a draft. Of several (Step 3.5), each was trained for one
step: the first reads the pending token, the second that token and the one drafted from it, and so
on. There are as many drafts as heads, as in llama.cpp's driver.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localmtp.engine.compatibility import CROPPED_HEADS
from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import DrafterState
from localmtp.engine.drafters.head_cache import WAITING, HeadCache
from localmtp.engine.llama import Batch, Floats, Model
from localmtp.engine.sampling.distribution import Draft
from localmtp.limits import MAX_DRAFT


class HeadDrafter:
    """MTP heads, on the model of the target or on that of a file with the heads alone.

    The pending token goes in with the target's hidden state from which it was chosen, each drafted
    token with that of the head that drafted it. Positions advance, and drafts leave cells behind,
    which are removed before the next draft: a head refuses positions that it holds.

    Args:
        model: loaded with its heads.
        target: keeps the hidden states of all rows; closed after the drafter.

    Raises:
        LocalmtpError: libllama cannot create a context.
    """

    def __init__(self, model: Model, target: TargetContext) -> None:
        self._suppressed = target.vocab.suppressed
        self._n_vocab = model.vocab.size
        self._cropped = model.architecture in CROPPED_HEADS
        sequences, count = target.n_sequences, model.n_heads
        self.max_draft = count if count > 1 else MAX_DRAFT
        """Longest draft, in tokens."""
        max_rows = max(target.max_prefill_rows, sequences * (WAITING + count))
        self._batch = Batch(max_rows, n_embd=model.n_embd_out)
        self._heads = [
            HeadCache(
                model, target, self._batch, max_rows=max_rows, head=head, cropped=self._cropped
            )
            for head in range(count)
        ]
        self.context = self._heads[0].context if count == 1 else None
        """Computes the drafts; None if several do."""
        self._hidden: Floats = np.empty((sequences, count, model.n_embd_out), np.float32)
        """Hidden states that the last rows of each sequence go in with: of the pending token and
        its draft with several heads, else of the last token."""
        for head in self._heads:
            target.followers.append(head.share)

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Drafts until the policy of every slot stops; see `Drafter.propose`."""
        active = [
            slot for slot in slots if slot.policy.should_draft() and slot.pending < self._n_vocab
        ]
        if not active:
            return
        for slot in active:
            slot.draft = Draft()
            self._hidden[slot.sequence.index, 0] = slot.sequence.hidden
        heads, suppressed, most = self._heads, self._suppressed, self.max_draft
        states, count, step = self._hidden, len(self._heads), 0
        while True:
            context = heads[step % count].context
            rows = self._lay_out(active, step)
            context.decode(self._batch)
            logits = context.logits()
            if suppressed.size:
                logits[:, suppressed] = float("-inf")
            hidden, going, step = None, 0, step + 1
            for row, slot in enumerate(active):
                draft, policy = slot.draft, slot.policy
                draft.steps += 1
                on_device = slot.rows
                proposal = slot.sampler.propose((logits if on_device is None else on_device)[row])
                if policy.should_verify(proposal.confidence):
                    slot.sampler.draw(proposal, draft)
                    if step < most and policy.should_draft():
                        if hidden is None:
                            hidden = context.hidden()
                        states[slot.sequence.index, step % count] = hidden[rows[row]]
                        active[going] = slot
                        going += 1
            if not going:
                return
            del active[going:]

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Reads the new prompt tokens, or lets a few of them wait for the first draft."""
        for head in self._heads:
            head.prefilled(sequence, begin)

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """Lets the new tokens wait for the next draft."""
        for head in self._heads:
            head.committed(slot.sequence, accepted)

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """Returns the cache of each head, and the tokens that wait."""
        return [head.state(sequence.index) for head in self._heads]

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """Replaces the cache of each head, and the tokens that wait."""
        index, heads = sequence.index, self._heads
        return len(states) == len(heads) and all(
            head.load(index, state) for head, state in zip(heads, states, strict=True)
        )

    def close(self) -> None:
        """Frees the batch and the contexts."""
        self._batch.close()
        for head in self._heads:
            head.context.close()

    def _lay_out(self, slots: Sequence[DraftSlot], step: int) -> list[int]:
        """Makes rows for a step: of all that its head has not read.

        Returns:
            The row of the hidden state of each slot.
        """
        batch, states, count = self._batch, self._hidden, len(self._heads)
        head, cropped = self._heads[step % count], self._cropped
        batch.clear()
        rows: list[int] = []
        for slot in slots:
            sequence = slot.sequence
            hidden = states[sequence.index]
            if step < count:
                head.lay_out(sequence, (slot.pending, *slot.draft.tokens), hidden[: step + 1])
            else:
                head.lay_out_next(sequence, slot.draft.tokens[-1], step, hidden[0])
            rows.append(len(rows) if cropped else batch.n_rows - 1)
        return rows
