"""The KV cache of one MTP head, and the tokens that it has not read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import DrafterState
from localmtp.engine.llama import Batch, Context, Floats, Model

WAITING = 32
"""Tokens of a sequence that may wait for the next draft: more than a round adds."""


class _Unread:
    """Tokens of one sequence that the head has not read, each with the hidden state before it."""

    __slots__ = ("begin", "hidden", "outdated", "tokens")

    def __init__(self, n_embd: int) -> None:
        self.begin = 0
        """Position of the first of them; earlier ones are in the head's cache."""
        self.tokens: list[int] = []
        self.hidden: Floats = np.empty((WAITING, n_embd), np.float32)
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


class HeadCache:
    """The context of one MTP head, which follows the tokens of a target's sequences.

    Args:
        model: loaded with its heads.
        target: keeps the hidden states of all rows; closed after this one.
        batch: for hidden states of the model's width, empty between calls.
        max_rows: capacity of the batch.
        head: number of the head; the first one is 0.
        cropped: whether the head computes hidden states of rows with logits only.

    Raises:
        LocalmtpError: libllama cannot create the context.
    """

    def __init__(
        self,
        model: Model,
        target: TargetContext,
        batch: Batch,
        *,
        max_rows: int,
        head: int,
        cropped: bool,
    ) -> None:
        self._target = target
        self._batch = batch
        self._max_rows = max_rows
        sequences = target.n_sequences
        self.context = Context(
            model,
            n_ctx=target.cache.n_ctx,
            n_batch=max_rows,
            n_outputs=sequences,
            threads=target.threads.most,
            sequences=sequences,
            head=head,
            all_hidden=not cropped,
        )
        target.threads.follow(self.context.set_threads)
        self._unread = [_Unread(model.n_embd_out) for _ in range(sequences)]

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Reads new prompt tokens, or lets a few of them wait; see `Drafter.prefilled`.

        Media are left out: the head has no rows for them, and where positions have several
        components (M-RoPE) libllama allows holes. A token is read with zeros if the hidden state
        before it is unknown, as the first one of a text is.
        """
        unread, position = self._unread[sequence.index], sequence.position_of(begin)
        unread.cut(position)
        tokens = sequence.tokens[begin:]
        first = self._target.first_row(sequence.index)
        rows = self._target.hidden()[first : first + len(tokens)]
        fits = len(unread.tokens) + len(tokens) <= WAITING
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

    def committed(self, sequence: TargetSequence, accepted: int) -> None:
        """Lets the new tokens wait for the next draft; see `Drafter.committed`."""
        unread, tokens = self._unread[sequence.index], sequence.tokens
        end, surplus = sequence.position, sequence.surplus
        old = end - accepted - 1
        first = self._target.first_row(sequence.index)
        hidden = self._target.hidden()
        if not old <= unread.end <= end:
            unread.cut(old)
        if len(unread.tokens) + end - unread.end > WAITING:
            self._read(sequence.index)
        for at in range(unread.end, end):
            before = hidden[first + at - old - 1] if at > old else sequence.before
            unread.add(tokens[at + surplus], before)

    def lay_out(self, sequence: TargetSequence, tokens: Sequence[int], hidden: Floats) -> None:
        """Adds rows for the tokens that wait and the pending one, with its draft, to the batch.

        Args:
            sequence: of the tokens.
            tokens: the pending token and drafted ones.
            hidden: [tokens, n_embd]: the hidden state for each.
        """
        index, position = sequence.index, sequence.position
        unread = self._unread[index]
        if unread.end != position:
            unread.cut(position)
        self._add_unread(index)
        unread.begin += 1
        if len(tokens) > 1:
            unread.outdate(unread.begin)
        batch, row = self._batch, self._batch.n_rows
        batch.hidden[row : row + len(tokens)] = hidden
        batch.add(tokens, position, all_logits=False, sequence=index)

    def lay_out_next(self, sequence: TargetSequence, token: int, step: int, hidden: Floats) -> None:
        """Adds a row for the last drafted token, if this head has read the ones before it."""
        unread, batch = self._unread[sequence.index], self._batch
        unread.outdate(unread.begin)
        batch.hidden[batch.n_rows] = hidden
        position = sequence.position + step
        batch.add((token,), position, all_logits=False, sequence=sequence.index)

    def share(self, source: int, index: int, position: int) -> None:
        """Takes over what the head has read of another sequence; see `TargetContext.share`."""
        of_source, unread = self._unread[source], self._unread[index]
        self.context.remove_from(0, index)
        read = min(position, of_source.begin)
        self.context.share(source, index, read)
        unread.begin, unread.outdated = read, -1
        unread.tokens = of_source.tokens[: max(0, position - read)]
        count = len(unread.tokens)
        unread.hidden[:count] = of_source.hidden[:count]

    def state(self, index: int) -> DrafterState:
        """Returns a copy of the cache of a sequence, and the tokens that wait."""
        unread = self._unread[index]
        self._remove_outdated(index)
        count = len(unread.tokens)
        waiting = unread.hidden[:count].copy() if count else None
        cache = self.context.copy_sequence(index)
        return DrafterState(cache, unread.begin, tuple(unread.tokens), waiting)

    def load(self, index: int, state: DrafterState) -> bool:
        """Replaces the cache of a sequence, and the tokens that wait.

        Returns:
            Whether libllama took it; otherwise it is empty.
        """
        unread = self._unread[index]
        self.context.remove_from(0, index)
        unread.begin, unread.outdated = 0, -1
        unread.tokens.clear()
        if len(state.tokens) > WAITING or not self.context.restore_sequence(state.cache, index):
            return False
        unread.begin = state.begin
        unread.tokens += state.tokens
        if state.hidden is not None:
            unread.hidden[: len(state.tokens)] = state.hidden
        return True

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
            self.context.remove_from(unread.outdated, index)
            unread.outdated = -1

    def _read(self, index: int) -> None:
        """Reads the tokens that wait, in a pass without logits."""
        self._batch.clear()
        self._add_unread(index)
        if self._batch.n_rows:
            self.context.decode(self._batch)

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
            self.context.decode(batch)
