"""Checkpoints of sliding windows and recurrent states, in host memory.

Full-attention layers hold every position, so rolling back only removes cells. Sliding-window layers
hold only their window; earlier positions must be saved before they leave it. Recurrent layers hold
the states after the last few rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from localmtp.engine.decoding.state import SavedCheckpoint
from localmtp.engine.llama import Context, Floats, StateBytes

_MAX_BYTES = 1 << 30
"""Memory limit in bytes. A checkpoint takes 6 MB on E2B, 20 on E4B, 210 on 26B-A4B, 340 on 12B and
840 on 31B, 157 on Qwen 3.5 27B, less than placement leaves free."""

_MAX_COUNT = 16
"""Maximum number, for small models, whose checkpoints take little memory."""


class Checkpoints:
    """Saved windows and states of one sequence, by the number of tokens in the cache.

    Args:
        context: the target's context.
        sequence: number of the sequence.
        sequences: number of sequences that share the memory for checkpoints.
    """

    def __init__(self, context: Context, sequence: int = 0, *, sequences: int = 1) -> None:
        self._context = context
        self._sequence = sequence
        self._max_bytes = _MAX_BYTES // sequences
        self._saved: dict[int, StateBytes] = {}
        self._hidden: dict[int, Floats] = {}

    def save(self, length: int, hidden: Floats | None = None) -> None:
        """Saves the window or state of a cache that holds `length` tokens.

        Beyond the bounds, discards the checkpoint whose neighbours are closest, never the latest.

        Args:
            length: number of tokens.
            hidden: [n_embd], the hidden state of the last of them.
        """
        if length in self._saved:
            return
        self._saved[length] = self._context.copy_state(self._sequence)
        if hidden is not None:
            self._hidden[length] = hidden.copy()
        while len(self._saved) > 1 and self._over_limit():
            lengths = [0, *sorted(self._saved)]
            gaps = zip(lengths, lengths[1:], lengths[2:], strict=False)
            _, closest = min((after - before, at) for before, at, after in gaps)
            self._discard(closest)

    def discard_after(self, length: int) -> None:
        """Discards checkpoints of more than `length` tokens, where the tokens have changed."""
        for longer in [at for at in self._saved if at > length]:
            self._discard(longer)

    def restore(self, length: int) -> int:
        """Restores the latest checkpoint of at most `length` tokens.

        Returns:
            Its number of tokens; 0 if there is none.
        """
        at = self.before(length)
        return at if at and self._context.restore_state(self._saved[at], self._sequence) else 0

    def before(self, length: int) -> int:
        """Number of tokens of the latest checkpoint of at most `length`; 0 if there is none."""
        return max((at for at in self._saved if at <= length), default=0)

    def saved(self, length: int) -> StateBytes | None:
        """Returns the checkpoint of exactly `length` tokens, or None."""
        return self._saved.get(length)

    def hidden(self, length: int) -> Floats | None:
        """Returns the hidden state saved with the checkpoint of `length` tokens."""
        return self._hidden.get(length)

    def latest(self, count: int) -> dict[int, SavedCheckpoint]:
        """Returns the latest checkpoints, by number of tokens."""
        return {
            length: SavedCheckpoint(self._saved[length], self._hidden.get(length))
            for length in sorted(self._saved)[-count:]
        }

    def load(self, checkpoints: Mapping[int, SavedCheckpoint]) -> None:
        """Replaces all checkpoints."""
        self._saved = {length: saved.window for length, saved in checkpoints.items()}
        self._hidden = {
            length: saved.hidden
            for length, saved in checkpoints.items()
            if saved.hidden is not None
        }

    def adopt(self, length: int, data: StateBytes) -> None:
        """Adds a checkpoint of another sequence with the same first `length` tokens."""
        self._saved[length] = data

    def _discard(self, length: int) -> None:
        del self._saved[length]
        self._hidden.pop(length, None)

    def _over_limit(self) -> bool:
        size = sum(data.nbytes for data in self._saved.values())
        return size > self._max_bytes or len(self._saved) > _MAX_COUNT
