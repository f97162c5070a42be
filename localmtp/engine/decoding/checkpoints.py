"""Places in a conversation to come back to: the sliding layers' state, in host memory.

Full-attention layers keep every position, so going back is forgetting. Sliding layers keep their
window alone: what a position before it needs is gone, unless it was copied while it was there.
"""

from __future__ import annotations

from localmtp.engine.llama import Context, StateBytes

_MOST_BYTES = 1 << 30
"""A checkpoint takes 6 MB on E2B, 20 on E4B, 210 on 26B-A4B, 340 on 12B, 840 on 31B: within what
is left free beside each on a machine that it fits."""

_MOST = 16
"""So that small models do not fill what large ones may need: the last turns, others far apart."""


class Checkpoints:
    """Copies at some lengths of one token sequence in a context.

    Args:
        context: of the target.
        sequence: its number.
        sequences: that share the memory for checkpoints.
    """

    def __init__(self, context: Context, sequence: int = 0, *, sequences: int = 1) -> None:
        self._context = context
        self._sequence = sequence
        self._sequences = sequences
        self._saved: dict[int, StateBytes] = {}

    def beside(self, sequence: int) -> Checkpoints:
        """None yet, of another sequence."""
        return Checkpoints(self._context, sequence, sequences=self._sequences)

    def save(self, length: int) -> None:
        """Keep the state as it is now, with `length` tokens in the cache.

        Beyond the bounds, the one whose neighbours are closest goes; the latest stays always.
        """
        if length in self._saved:
            return
        self._saved[length] = self._context.copy_window(self._sequence)
        while len(self._saved) > 1 and self._too_much():
            lengths = [0, *sorted(self._saved)]
            gaps = zip(lengths, lengths[1:], lengths[2:], strict=False)
            _, closest = min((after - before, at) for before, at, after in gaps)
            del self._saved[closest]

    def forget_after(self, length: int) -> None:
        """Drop those of longer sequences: the tokens have changed from here on."""
        for longer in [at for at in self._saved if at > length]:
            del self._saved[longer]

    def restore(self, length: int) -> int:
        """Return to the latest state of at most `length` tokens.

        Returns:
            How many tokens it had; 0 if nothing was saved.
        """
        at = self.before(length)
        return at if at and self._context.restore_window(self._saved[at], self._sequence) else 0

    def before(self, length: int) -> int:
        """The length of the latest state of at most `length` tokens; 0 if nothing was saved."""
        return max((at for at in self._saved if at <= length), default=0)

    def saved(self, length: int) -> StateBytes | None:
        """The state at `length`, if it was saved."""
        return self._saved.get(length)

    def keep(self, length: int, data: StateBytes) -> None:
        """Take over a state that another sequence, which begins alike, saved at `length`."""
        self._saved[length] = data

    def _too_much(self) -> bool:
        size = sum(data.nbytes for data in self._saved.values())
        return size > _MOST_BYTES // self._sequences or len(self._saved) > _MOST
