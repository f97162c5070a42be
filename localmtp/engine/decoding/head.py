"""Drafts by an MTP head: the last block of the target's architecture, with a KV cache of its own.

The head of Qwen 3.5, DeepSeek V3, GLM 4.5 and others reads a token with the target's hidden state
before it and predicts the token after it. Its cache holds every token of the text, each with the
target's hidden state; llama.cpp's driver adds them in a pass of their own. Here they wait for the
next draft, whose first step adds them too: a pass of the head less for every round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localmtp.engine.compatibility import CROPPED_HEADS
from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import DrafterState
from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.engine.sampling.distribution import Draft

_WAITING = 32
"""Tokens of a sequence that may wait for the next draft: more than a round adds."""


class _Unread:
    """Tokens of one sequence that the head has not read, each with the hidden state before it."""

    __slots__ = ("begin", "hidden", "outdated", "tokens")

    def __init__(self, n_embd: int) -> None:
        self.begin = 0
        """Position of the first of them; earlier ones are in the head's cache."""
        self.tokens: list[int] = []
        self.hidden: Floats = np.empty((_WAITING, n_embd), np.float32)
        self.outdated = -1
        """Position from which on cells are of drafts, or of other tokens; -1 if none are."""

    @property
    def end(self) -> int:
        return self.begin + len(self.tokens)

    def cut(self, position: int) -> None:
        """Forgets tokens from a position on, and skips positions up to it."""
        if position < self.begin:
            self.outdate(position)
        if not self.begin <= position <= self.end:
            self.begin = position
        del self.tokens[position - self.begin :]

    def outdate(self, position: int) -> None:
        """Marks cells from a position on as outdated."""
        if not 0 <= self.outdated <= position:
            self.outdated = position

    def add(self, token: int, hidden: Floats) -> None:
        self.hidden[len(self.tokens)] = hidden
        self.tokens.append(token)


class HeadDrafter:
    """An MTP head, on the model of the target or on that of a file with the head alone.

    The pending token goes in with the target's hidden state from which it was chosen, each drafted
    token with the head's own. Positions advance, and drafts leave cells behind, which are removed
    before the next pass: the head refuses positions that it holds.

    Args:
        model: loaded with its heads.
        target: keeps the hidden states of all rows; closed after the drafter.

    Raises:
        LocalmtpError: libllama cannot create the context.
    """

    def __init__(self, model: Model, target: TargetContext) -> None:
        self._target = target
        self._suppressed = target.vocab.suppressed
        self._n_vocab = model.vocab.size
        self._cropped = model.architecture in CROPPED_HEADS
        sequences = target.n_sequences
        self._max_rows = max(target.max_prefill_rows, sequences * (_WAITING + 1))
        self.context = self._context = Context(
            model,
            n_ctx=target.cache.n_ctx,
            n_batch=self._max_rows,
            n_outputs=sequences,
            threads=target.threads.most,
            sequences=sequences,
            head=True,
            all_hidden=not self._cropped,
        )
        target.threads.follow(self._context.set_threads)
        self._batch = Batch(self._max_rows, n_embd=model.n_embd_out)
        self._unread = [_Unread(model.n_embd_out) for _ in range(sequences)]
        target.followers.append(self._share)

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Drafts until the policy of every slot stops; see `Drafter.propose`."""
        active = [
            slot for slot in slots if slot.policy.should_draft() and slot.pending < self._n_vocab
        ]
        if not active:
            return
        batch, context, suppressed = self._batch, self._context, self._suppressed
        rows: Sequence[int] = self._lay_out_first(active)
        step = 0
        while True:
            context.decode(batch)
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
                    token = slot.sampler.draw(proposal, draft)
                    if policy.should_draft():
                        # Rows replace those of slots that have stopped.
                        if hidden is None:
                            hidden = context.hidden()
                        batch.tokens[going] = token
                        batch.hidden[going] = hidden[rows[row]]
                        active[going] = slot
                        going += 1
            if not going:
                return
            del active[going:]
            rows = self._lay_out(active, step)

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Reads the new prompt tokens, or lets a few of them wait for the first draft.

        Media are left out: the head has no rows for them, and where positions have several
        components (M-RoPE) libllama allows holes. A token is read with zeros if the hidden state
        before it is unknown, as the first one of a text is.
        """
        unread, position = self._unread[sequence.index], sequence.position_of(begin)
        unread.cut(position)
        tokens = sequence.tokens[begin:]
        first = self._target.first_row(sequence.index)
        rows = self._target.hidden()[first : first + len(tokens)]
        fits = len(unread.tokens) + len(tokens) <= _WAITING
        if fits and min(tokens) >= 0:
            unread.add(tokens[0], sequence.before)
            for token, hidden in zip(tokens[1:], rows, strict=False):
                unread.add(token, hidden)
            return
        self._read(sequence.index)
        if tokens[0] >= 0:
            unread.add(tokens[0], sequence.before)
            self._read(sequence.index)
        unread.cut(position + 1)
        self._read_rows(sequence.index, tokens[1:], rows)
        unread.cut(sequence.position)

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """Lets the new tokens wait for the next draft."""
        sequence = slot.sequence
        unread, tokens = self._unread[sequence.index], sequence.tokens
        end, surplus = sequence.position, sequence.surplus
        old = end - accepted - 1
        first = self._target.first_row(sequence.index)
        hidden = self._target.hidden()
        if not old <= unread.end <= end:
            unread.cut(old)
        if len(unread.tokens) + end - unread.end > _WAITING:
            self._read(sequence.index)
        for at in range(unread.end, end):
            before = hidden[first + at - old - 1] if at > old else sequence.before
            unread.add(tokens[at + surplus], before)

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """Returns its cache, and the tokens that wait."""
        unread = self._unread[sequence.index]
        self._remove_outdated(sequence.index)
        cache = self._context.copy_sequence(sequence.index)
        count = len(unread.tokens)
        waiting = unread.hidden[:count].copy() if count else None
        return (DrafterState(cache, unread.begin, tuple(unread.tokens), waiting),)

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """Replaces its cache, and the tokens that wait."""
        unread = self._unread[sequence.index]
        self._context.remove_from(0, sequence.index)
        unread.begin, unread.outdated = 0, -1
        unread.tokens.clear()
        if len(states) != 1 or len(states[0].tokens) > _WAITING:
            return False
        (state,) = states
        if not self._context.restore_sequence(state.cache, sequence.index):
            return False
        unread.begin = state.begin
        unread.tokens += state.tokens
        if state.hidden is not None:
            unread.hidden[: len(state.tokens)] = state.hidden
        return True

    def close(self) -> None:
        """Frees the batch and the context."""
        self._batch.close()
        self._context.close()

    def _lay_out_first(self, slots: Sequence[DraftSlot]) -> list[int]:
        """Makes rows for the tokens that wait and the pending one of every slot.

        Returns:
            The row of the hidden state of each slot's pending token.
        """
        batch = self._batch
        batch.clear()
        rows: list[int] = []
        for slot in slots:
            slot.draft = Draft()
            sequence = slot.sequence
            unread = self._unread[sequence.index]
            if unread.end != sequence.position:
                unread.cut(sequence.position)
            self._add_unread(sequence.index)
            batch.hidden[batch.n_rows] = sequence.hidden
            rows.append(len(rows) if self._cropped else batch.n_rows)
            pending = (slot.pending,)
            batch.add(pending, unread.begin, all_logits=True, sequence=sequence.index)
            unread.begin += 1
        return rows

    def _lay_out(self, slots: Sequence[DraftSlot], step: int) -> Sequence[int]:
        """Makes a row for the last drafted token of every slot; tokens stay.

        Returns:
            The row of each slot.
        """
        batch = self._batch
        tokens = batch.tokens
        batch.clear()
        for row, slot in enumerate(slots):
            index, position = slot.sequence.index, slot.sequence.position + step
            unread = self._unread[index]
            unread.outdate(unread.begin)
            batch.add((tokens[row],), position, all_logits=True, sequence=index)
        return range(len(slots))

    def _add_unread(self, index: int) -> None:
        """Moves the tokens that wait to the batch, without logits."""
        unread, batch = self._unread[index], self._batch
        self._remove_outdated(index)
        count, row = len(unread.tokens), batch.n_rows
        if count:
            batch.hidden[row : row + count] = unread.hidden[:count]
            batch.add(unread.tokens, unread.begin, all_logits=False, sequence=index, no_logits=True)
            unread.begin += count
            unread.tokens.clear()

    def _remove_outdated(self, index: int) -> None:
        """Removes cells of drafts, or of other tokens."""
        unread = self._unread[index]
        if unread.outdated >= 0:
            self._context.remove_from(unread.outdated, index)
            unread.outdated = -1

    def _read(self, index: int) -> None:
        """Reads the tokens that wait, in a pass without logits."""
        self._batch.clear()
        self._add_unread(index)
        if self._batch.n_rows:
            self._context.decode(self._batch)

    def _read_rows(self, index: int, tokens: Sequence[int], rows: Floats) -> None:
        """Reads prompt tokens of a pass; row i of `rows` is the hidden state before token i."""
        unread, batch = self._unread[index], self._batch
        begin, most = unread.begin, self._max_rows
        wanted = [i for i, token in enumerate(tokens) if token >= 0]
        for some in (wanted[i : i + most] for i in range(0, len(wanted), most)):
            batch.clear()
            batch.hidden[: len(some)] = rows[some]
            for i in some:
                token = (tokens[i],)
                batch.add(token, begin + i, all_logits=False, sequence=index, no_logits=True)
            self._context.decode(batch)

    def _share(self, source: int, index: int, position: int) -> None:
        """Takes over what the head has read of another sequence; see `TargetContext.share`."""
        of_source, unread = self._unread[source], self._unread[index]
        self._context.remove_from(0, index)
        read = min(position, of_source.begin)
        self._context.share(source, index, read)
        unread.begin, unread.outdated = read, -1
        unread.tokens = of_source.tokens[: max(0, position - read)]
        count = len(unread.tokens)
        unread.hidden[:count] = of_source.hidden[:count]
