"""Drafters: propose tokens for the target to verify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import DrafterState
from localmtp.engine.llama import Batch, Context, Model
from localmtp.engine.pacing import DraftPolicy
from localmtp.engine.sampling.distribution import NO_DRAFT, Draft
from localmtp.engine.sampling.sampler import Sampler


@dataclass(slots=True, eq=False)
class DraftSlot:
    """One sequence's part of a round; reused from round to round."""

    sequence: TargetSequence
    sampler: Sampler
    policy: DraftPolicy
    pending: int = -1
    """The token chosen last, not in the cache yet."""
    draft: Draft = NO_DRAFT
    """`NO_DRAFT` when a round begins; a drafter that takes a step replaces it."""
    rows: Any = None
    """The drafter's rows where they are chosen on the device; see `DeviceRows`. None: logits."""
    guard: bool = False
    """Whether to save the state of the sequence before a draft is verified."""


class Drafter(Protocol):
    """Proposes what follows the pending tokens of several sequences.

    A round calls `propose`, then `committed` for each sequence after its draft is verified. Every
    prefill pass is followed by `prefilled`. A drafter with state that follows the target's tokens,
    such as a head with its own KV cache, updates it there; others ignore both. Prompt tokens below
    0 represent media: they have no text, and are never drafted.
    """

    @property
    def context(self) -> Context | None:
        """Computes the drafts; None if they are copied, or if several contexts do."""

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Drafts for all slots, one step of all of them at a time.

        Each slot's policy decides on every step and every token. A slot whose draft stays empty
        has a round without drafting.

        Raises:
            LocalmtpError: a decode failed.
        """

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Called after a prefill pass.

        Args:
            sequence: its cache now ends with new prompt tokens; `sequence.hidden` belongs to the
                last of them.
            begin: position of the first new token. State of the drafter from this position on is
                outdated.
        """

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """Called after a verified round.

        Args:
            slot: its sequence now ends with the pending token of the round and the accepted drafts;
                `pending` and `draft` are still those of the round.
            accepted: number of accepted draft tokens.
        """

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """Returns copies of its caches of a sequence, between rounds; none without any."""

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """Replaces its caches of a sequence, whose tokens are those of the copies.

        Returns:
            Whether libllama took them; otherwise they are empty.
        """

    def close(self) -> None:
        """Frees its resources; called before the target is closed."""


class MTPDrafter:
    """Gemma 4's assistant: four layers on the target's own KV cache.

    Each step takes a token and a hidden state, and returns logits and the next hidden state: first
    the pending token with the target's hidden state from which it was chosen, then each drafted
    token with the drafter's own. All steps of a round use the pending token's position, as in
    training. The drafter writes nothing to the cache, so rejected drafts leave no trace in it.

    Args:
        model: a `gemma4-assistant` made for the target.
        target: its cache is read; closed after the drafter.

    Raises:
        LocalmtpError: libllama cannot create the context.
    """

    def __init__(self, model: Model, target: TargetContext) -> None:
        self._suppressed = target.vocab.suppressed
        self._n_vocab = model.vocab.size
        rows = target.n_sequences
        self.context = self._context = Context(
            model,
            n_ctx=target.cache.n_ctx,
            n_batch=rows,
            n_outputs=rows,
            threads=target.threads.most,
            sequences=rows,
            target=target.cache,
        )
        target.threads.follow(self._context.set_threads)
        self._batch = Batch(rows, n_embd=target.model.n_embd)

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Drafts until the policy of every slot stops; see `Drafter.propose`."""
        active = [
            slot for slot in slots if slot.policy.should_draft() and slot.pending < self._n_vocab
        ]
        if not active:
            return
        batch, context, suppressed = self._batch, self._context, self._suppressed
        self._lay_out(active)
        for row, slot in enumerate(active):
            slot.draft = Draft()
            batch.tokens[row] = slot.pending
            batch.hidden[row] = slot.sequence.hidden
        while True:
            context.decode(batch)
            logits = context.logits()
            if suppressed.size:
                logits[:, suppressed] = float("-inf")
            hidden, going = None, 0
            for row, slot in enumerate(active):
                draft, policy = slot.draft, slot.policy
                draft.steps += 1
                rows = slot.rows
                proposal = slot.sampler.propose(logits[row] if rows is None else rows[row])
                if policy.should_verify(proposal.confidence):
                    token = slot.sampler.draw(proposal, draft)
                    if policy.should_draft():
                        # Rows replace those of slots that have stopped.
                        if hidden is None:
                            hidden = context.hidden()
                        batch.tokens[going] = token
                        batch.hidden[going] = hidden[row]
                        active[going] = slot
                        going += 1
            if not going:
                return
            if going < len(active):
                del active[going:]
                self._lay_out(active)

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Does nothing: the drafter's only state is the target's cache."""

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """Does nothing; see `prefilled`."""

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """Returns none; see `prefilled`."""
        return ()

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """Does nothing; see `prefilled`."""
        return True

    def close(self) -> None:
        """Frees the batch and the context."""
        self._batch.close()
        self._context.close()

    def _lay_out(self, slots: Sequence[DraftSlot]) -> None:
        """Makes a row for every slot, at the position of its pending token; tokens stay."""
        batch = self._batch
        tokens = batch.tokens
        batch.clear()
        for row, slot in enumerate(slots):
            sequence = slot.sequence
            position = sequence.position
            batch.add((tokens[row],), position, all_logits=True, sequence=sequence.index)
