"""One sequence of a target's KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from localmtp.engine.decoding.checkpoints import Checkpoints
from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.llama import Floats
from localmtp.engine.media import row_number

_MIN_SHARED = 64
"""Tokens that sharing another sequence's prefix must save: sharing copies its sliding window."""


class TargetSequence:
    """A token sequence in the cache of a target context.

    Between passes the cache holds `tokens`, possibly followed by rows of a pass that was
    interrupted; `reuse` removes those.

    Args:
        context: shared with other sequences; closed by its owner.
        index: number of the sequence in the context.
    """

    def __init__(self, context: TargetContext, index: int) -> None:
        self.context = context
        self.index = index
        self.tokens: list[int] = []
        """Token ids in the cache."""
        self.hidden: Floats = np.zeros(context.model.n_embd, np.float32)
        """[n_embd]: the hidden state from which the pending token was chosen."""
        self.checkpoints = Checkpoints(context.cache, index, sequences=context.n_sequences)

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
        shared = _before_media(prompt, self.shared_prefix(prompt))
        self.checkpoints.discard_after(shared)
        done = self._cut(min(shared, len(prompt) - 1))
        return self._share(prompt, others, done)

    def append(self, tokens: Sequence[int], row: int) -> None:
        """Records prompt tokens of the last pass.

        Args:
            tokens: of this sequence.
            row: row of its logits in the pass.
        """
        self.tokens.extend(tokens)
        np.copyto(self.hidden, self.context.hidden()[row])

    def verify(self, pending: int, draft: Sequence[int] = ()) -> Floats:
        """Verifies a draft in a pass of its own; see `TargetContext.verify`.

        Returns:
            Logits [len(draft) + 1, n_vocab]: row i follows draft[:i].
        """
        return self.context.verify([(self.index, len(self.tokens), (pending, *draft))])

    def commit(self, pending: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        """Commits the pending token and the accepted drafts of the last pass; rolls back the rest.

        Args:
            pending: the token before the draft.
            accepted: accepted draft tokens.
            drafted: number of draft tokens in the pass.
            row: row of the pending token in the pass.

        Raises:
            LocalmtpError: see `Context.remove_from`.
        """
        self.tokens.append(pending)
        self.tokens.extend(accepted)
        self.hidden[:] = self.context.hidden()[row + len(accepted)]
        if len(accepted) < drafted:
            self.context.cache.remove_from(len(self.tokens), self.index)

    def redecode_last(self) -> Floats:
        """Decodes the last token again, in a pass of one row.

        Returns:
            Logits [1, n_vocab] after it.
        """
        last = self.tokens.pop()
        self.context.cache.remove_from(len(self.tokens), self.index)
        logits = self.verify(last)
        self.commit(last, (), 0)
        return logits

    def save_checkpoint(self) -> None:
        """Saves the sliding window, so that `reuse` can return to the current length."""
        if self.context.window:
            self.checkpoints.save(len(self.tokens))

    def clear(self) -> None:
        """Empties the cache and discards the checkpoints."""
        self.checkpoints.discard_after(0)
        self.context.cache.remove_from(0, self.index)
        self.tokens.clear()

    def _cut(self, length: int) -> int:
        """Cuts the cache to `length` tokens, or fewer where the sliding window has moved on.

        Returns:
            Number of tokens left.
        """
        if length < len(self.tokens) and not self._holds_window(length):
            length = self.checkpoints.restore(length)
        self.context.cache.remove_from(length, self.index)
        del self.tokens[length:]
        return length

    def _holds_window(self, length: int) -> bool:
        """Whether sliding-window layers hold every position that token `length` attends to."""
        window = self.context.window
        first = max(0, length - window + 1)
        return not window or self.context.cache.earliest_position(self.index) <= first

    def _share(self, prompt: Sequence[int], others: Sequence[TargetSequence], done: int) -> int:
        """Takes over a longer prefix of `prompt` from another sequence, if there is one.

        Cells of full-attention layers are shared. The sliding window is copied: libllama would
        otherwise keep cells that several sequences hold beyond the window.

        Returns:
            Number of prompt tokens in the cache.
        """
        offers = [(other._shareable(prompt), other) for other in others if other is not self]
        length, other = max(offers, key=itemgetter(0), default=(0, self))
        if length < done + _MIN_SHARED:
            return done
        self.clear()
        self.context.cache.share(other.index, self.index, length)
        if self.context.window and not self._copy_window(other, length):
            self.clear()
            return 0
        self.tokens.extend(other.tokens[:length])
        return length

    def _shareable(self, prompt: Sequence[int]) -> int:
        """Number of prompt tokens that another sequence can take over from this one."""
        length = _before_media(prompt, min(self.shared_prefix(prompt), len(prompt) - 1))
        return length if self._holds_window(length) else self.checkpoints.before(length)

    def _copy_window(self, other: TargetSequence, length: int) -> bool:
        saved = other.checkpoints.saved(length)
        if saved is not None:
            self.checkpoints.adopt(length, saved)
        cache = self.context.cache
        window = cache.copy_window(other.index) if saved is None else saved
        restored = cache.restore_window(window, self.index)
        cache.remove_from(length, self.index)
        return restored


def _before_media(prompt: Sequence[int], length: int) -> int:
    """Shortens a prefix that ends inside an image or sound: it ends before it then."""
    inside = length < len(prompt) and prompt[length] < 0
    return length - row_number(prompt[length]) if inside else length
