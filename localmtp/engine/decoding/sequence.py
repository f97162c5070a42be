"""One sequence of a target's KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from localmtp.engine.decoding.checkpoints import Checkpoints
from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.state import SequenceState
from localmtp.engine.llama import Floats, StateBytes
from localmtp.engine.media import row_number, surplus_rows

MIN_SHARED = 32
"""Tokens that sharing another sequence's prefix must save, or loading a state: both copy the
window."""

_SAVED_CHECKPOINTS = 2
"""Checkpoints in a copy of the state: the beginnings of the last two turns, to which a conversation
returns when its last question or answer changes."""


class TargetSequence:
    """A token sequence in the cache of a target context.

    Between passes the cache holds `tokens`, possibly followed by rows of a pass that was
    interrupted; `reuse` removes those. The cells of an idle sequence may be swapped out to host
    memory; `reuse` swaps them in where they are needed.

    Args:
        context: shared with other sequences; closed by its owner.
        index: number of the sequence in the context.
    """

    def __init__(self, context: TargetContext, index: int) -> None:
        self.context = context
        self.index = index
        self.tokens: list[int] = []
        """Token ids in the cache; media below 0."""
        self.surplus = 0
        """Number of `tokens` without a position: rows of images with positions on several axes."""
        self.hidden: Floats = np.zeros(context.model.n_embd_out, np.float32)
        """[n_embd]: the hidden state from which the pending token was chosen; zeros if the context
        computes none."""
        self.before: Floats = np.zeros_like(self.hidden)
        """[n_embd]: the hidden state before the first token that the last pass added: of the token
        before it; zeros if there is none, or if it is unknown because the cache was cut."""
        self._knows_hidden = True
        self._guard: tuple[int, StateBytes] | None = None
        self._swapped: StateBytes | None = None
        self.drafts = True
        """Whether the current answer may be drafted: else drafters need not follow the prompt."""
        self.checkpoints = Checkpoints(context.cache, index, sequences=context.n_sequences)

    @property
    def position(self) -> int:
        """Position of the next token."""
        return len(self.tokens) - self.surplus

    def position_of(self, index: int) -> int:
        """Position of the token at an index of `tokens`, or of the next one."""
        return index - surplus_rows(self.tokens[:index]) if self.surplus else index

    def shared_prefix(self, prompt: Sequence[int]) -> int:
        """Length of the longest common prefix of the cache and `prompt`, in tokens."""
        most = min(len(self.tokens), len(prompt))
        return next((i for i in range(most) if self.tokens[i] != prompt[i]), most)

    def reuse(self, prompt: Sequence[int], others: Sequence[TargetSequence] = ()) -> int:
        """Cuts the cache to the longest prefix of `prompt` that it, or another sequence, holds.

        Args:
            prompt: token ids, at least one.
            others: sequences of the same context whose prefixes may be shared.

        Returns:
            Number of prompt tokens in the cache: never all, since the last token's logits are
            needed.
        """
        self.context.threads.restart()
        self._guard = None
        if self._swapped is not None and self.shared_prefix(prompt) < MIN_SHARED:
            self.clear()
        self._swap_in()
        shared = _before_media(prompt, self.shared_prefix(prompt))
        self.checkpoints.discard_after(shared)
        done = self._cut(_before_media(prompt, min(shared, len(prompt) - 1)))
        return self._share(prompt, others, done)

    def append(self, tokens: Sequence[int], row: int) -> None:
        """Records prompt tokens of the last pass.

        Args:
            tokens: of this sequence.
            row: row of its logits in the pass.
        """
        self.tokens.extend(tokens)
        self.surplus += surplus_rows(tokens)
        if self.context.all_hidden:
            row = self.context.first_row(self.index) + len(tokens) - 1
        self._note_hidden(row)

    def guard(self) -> None:
        """Saves the state before a pass that may be rolled back entirely, or not at all.

        The next `commit` returns to it where libllama cannot roll back.
        """
        self._guard = len(self.tokens), self.context.cache.copy_state(self.index)

    def verify(self, pending: int, draft: Sequence[int] = ()) -> Floats:
        """Verifies a draft in a pass of its own; see `TargetContext.verify`.

        Returns:
            Logits [len(draft) + 1, n_vocab]: row i follows draft[:i].
        """
        self.context.on_host_rows(self.index)
        return self.context.verify([(self.index, self.position, (pending, *draft))])

    def commit(self, pending: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        """Commits the pending token and the accepted drafts of the last pass; rolls back the rest.

        Args:
            pending: the token before the draft.
            accepted: accepted draft tokens.
            drafted: number of draft tokens in the pass.
            row: row of the pending token in the pass.

        Raises:
            RollbackError: the state after these tokens is not there; see `guard`.
            LocalmtpError: see `Context.remove_from`.
        """
        self.tokens.append(pending)
        self.tokens.extend(accepted)
        self._note_hidden(row + len(accepted))
        if len(accepted) < drafted:
            self._roll_back()
        self._guard = None

    def save_checkpoint(self) -> None:
        """Saves window and state, so that `reuse` can return to the current length."""
        if self.context.needs_checkpoints:
            hidden = self.hidden if self._knows_hidden else None
            self.checkpoints.save(len(self.tokens), hidden)

    def state(self) -> SequenceState | None:
        """Returns a copy of cache, hidden state and the latest checkpoints.

        None where rows of an interrupted pass cannot be removed from a recurrent state.
        """
        cells = self._swapped if self._swapped is not None else self._copy_cells()
        if cells is None:
            return None
        return SequenceState(
            tuple(self.tokens),
            self.hidden.copy(),
            cells,
            self.checkpoints.latest(_SAVED_CHECKPOINTS),
        )

    @property
    def swapped_bytes(self) -> int:
        """Bytes of cells in host memory."""
        return 0 if self._swapped is None else self._swapped.nbytes

    def swap_out(self, most: int) -> int:
        """Moves the cells to host memory, if they take at most `most` bytes there.

        Cells that a copy does not hold stay: recurrent states that can be rolled back, and those
        before the window.

        Returns:
            Bytes that were moved.
        """
        context = self.context
        lossy = context.cache.recurrent or (context.model.n_swa and not context.window)
        if self._swapped is not None or lossy or not self.tokens:
            return 0
        if context.cache.copy_size(self.index) > most:
            return 0
        self._swapped = self._copy_cells()
        context.cache.remove_from(0, self.index)
        return self.swapped_bytes

    def _swap_in(self) -> None:
        cells, self._swapped = self._swapped, None
        if cells is not None and not self.context.cache.restore_sequence(cells, self.index):
            self.clear()

    def _copy_cells(self) -> StateBytes | None:
        cache = self.context.cache
        if not cache.can_roll_back(self.position, self.index):
            return None
        cache.remove_from(self.position, self.index)
        return cache.copy_sequence(self.index)

    def load(self, state: SequenceState) -> bool:
        """Replaces cache, hidden state and checkpoints.

        Returns:
            Whether libllama took the state; otherwise the sequence is empty.
        """
        self.clear()
        if not self.context.cache.restore_sequence(state.cache, self.index):
            return False
        self.tokens[:] = state.tokens
        self.surplus = surplus_rows(self.tokens)
        self.hidden[:] = state.hidden
        self.checkpoints.load(state.checkpoints)
        return True

    def clear(self) -> None:
        """Empties the cache and discards the checkpoints."""
        self._swapped = None
        self.checkpoints.discard_after(0)
        self.context.cache.remove_from(0, self.index)
        self.tokens.clear()
        self.surplus = 0
        self.hidden[:] = 0.0
        self._knows_hidden = True

    def _note_hidden(self, row: int) -> None:
        """Copies the hidden state of the last new token; `before` becomes the one before them."""
        self.before, self.hidden = self.hidden, self.before
        self._knows_hidden = True
        self.hidden[:] = self.context.hidden()[row]

    def _roll_back(self) -> None:
        """Removes the rows of the last pass that are not in `tokens`."""
        cache, position = self.context.cache, self.position
        if self._guard is not None and not cache.can_roll_back(position, self.index):
            begin, state = self._guard
            first = begin - self.surplus  # a pass with drafts has no media
            cache.restore_state(state, self.index)
            cache.remove_from(first, self.index)
            if begin < len(self.tokens):
                self.context.replay_later((self.index, first, self.tokens[begin:]))
            return
        cache.remove_from(position, self.index)

    def _cut(self, length: int) -> int:
        """Cuts the cache to `length` tokens, or fewer where layers do not hold that position.

        Returns:
            Number of tokens left.
        """
        if not self._holds(length):
            length = self.checkpoints.restore(length)
        position = self.position_of(length)
        self.context.cache.remove_from(position, self.index)
        if length < len(self.tokens):
            del self.tokens[length:]
            self.surplus = length - position
            saved = self.checkpoints.hidden(length)
            self._knows_hidden = saved is not None or not length
            self.hidden[:] = 0.0 if saved is None else saved
        return length

    def _holds(self, length: int) -> bool:
        """Whether all layers hold what the token after the first `length` attends to."""
        context, index, position = self.context, self.index, self.position_of(length)
        if not context.cache.can_roll_back(position, index):
            return False
        # A loaded state has no cells outside of the window, even where windows have full size.
        window = context.model.n_swa
        first = max(0, position - window + 1)
        return not window or context.cache.earliest_position(index) <= first

    def _share(self, prompt: Sequence[int], others: Sequence[TargetSequence], done: int) -> int:
        """Takes over a longer prefix of `prompt` from another sequence, if there is one.

        Cells of full-attention layers are shared. The sliding window is copied: libllama would
        otherwise keep cells that several sequences hold beyond the window. Recurrent states are
        copied too: libllama shares only the last one.

        Returns:
            Number of prompt tokens in the cache.
        """
        offers = [
            (other._shareable(prompt), other._swapped is None, other)
            for other in others
            if other is not self
        ]
        length, swapped_in, other = max(offers, key=itemgetter(0, 1), default=(0, True, self))
        if length < done + MIN_SHARED:
            return done
        if not swapped_in:
            other._swap_in()
            length = other._shareable(prompt)
        self.clear()
        position = other.position_of(length)
        self.context.share(other.index, self.index, position)
        if self.context.needs_checkpoints and not self._copy_state(other, length):
            self.clear()
            return 0
        self.tokens.extend(other.tokens[:length])
        self.surplus = length - position
        hidden = other.hidden if length == len(other.tokens) else other.checkpoints.hidden(length)
        self._knows_hidden = hidden is not None
        if hidden is not None:
            self.hidden[:] = hidden
        return length

    def _shareable(self, prompt: Sequence[int]) -> int:
        """Number of prompt tokens that another sequence can take over from this one."""
        length = _before_media(prompt, min(self.shared_prefix(prompt), len(prompt) - 1))
        cache = self.context.cache
        # Of recurrent layers only the state at the end can be copied.
        if cache.recurrent and self.position_of(length) != cache.end(self.index):
            return self.checkpoints.before(length)
        return length if self._holds(length) else self.checkpoints.before(length)

    def _copy_state(self, other: TargetSequence, length: int) -> bool:
        saved = other.checkpoints.saved(length)
        if saved is not None:
            self.checkpoints.adopt(length, saved)
        cache = self.context.cache
        state = cache.copy_state(other.index) if saved is None else saved
        restored = cache.restore_state(state, self.index)
        cache.remove_from(other.position_of(length), self.index)
        return restored


def _before_media(prompt: Sequence[int], length: int) -> int:
    """Shortens a prefix that ends inside an image or sound: it ends before it then."""
    inside = length < len(prompt) and prompt[length] < 0
    return length - row_number(prompt[length]) if inside else length
