"""Sequences without an answer, whose tokens wait for a prompt that continues them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localmtp.engine.decoding.sequence import MIN_SHARED, TargetSequence

_IDLE_PASSES = 128
"""Passes of others after which an idle sequence is swapped out. Attention visits its cells in every
pass; visiting them this often costs about as much as copying them out and back in."""

_CHECK_PASSES = 32
"""Passes between two checks."""

_MOST_BYTES = 256 << 20
"""Host memory for cells of idle sequences."""


class IdleSequences:
    """The free sequences of a target, the least recently used first.

    Sequences share one pool of cells, so that answers with drafts of different lengths fit one
    pass, and attention visits the whole pool. So cells that nothing has used for a while are
    swapped out, and swapped in again when a prompt continues them.

    Args:
        sequences: all free at first.
    """

    def __init__(self, sequences: Iterable[TargetSequence]) -> None:
        self._free = list(sequences)
        self._passes, self._next_check = 0, _CHECK_PASSES
        self._since = dict.fromkeys(self._free, 0)
        """Number of passes before each sequence became free."""

    def __len__(self) -> int:
        return len(self._free)

    @property
    def oldest(self) -> TargetSequence:
        """The least recently used sequence."""
        return self._free[0]

    def take(self, prompt: Sequence[int]) -> TargetSequence:
        """Removes and returns the sequence that holds most of a prompt, or else the oldest.

        BOS and the opening of a turn begin every prompt: for them no conversation is given up.
        """
        saved = [_saved(sequence, prompt) for sequence in self._free]
        return self._free.pop(saved.index(max(saved)))

    def add(self, sequence: TargetSequence) -> None:
        """Adds a sequence whose answer has ended."""
        self._free.append(sequence)
        self._since[sequence] = self._passes

    def count_pass(self) -> None:
        """Counts a pass of other sequences; swaps out those that have been idle for long."""
        self._passes += 1
        if self._passes >= self._next_check:
            self._next_check = self._passes + _CHECK_PASSES
            self._swap_out()

    def _swap_out(self) -> None:
        left = _MOST_BYTES - sum(sequence.swapped_bytes for sequence in self._since)
        for sequence in self._free:
            if self._passes - self._since[sequence] >= _IDLE_PASSES:
                left -= sequence.swap_out(left)


def _saved(sequence: TargetSequence, prompt: Sequence[int]) -> int:
    """Number of prompt tokens that a sequence saves; 0 if its own tokens are worth more."""
    shared = sequence.shared_prefix(prompt)
    continued = shared >= MIN_SHARED or 2 * shared >= len(sequence.tokens)
    return shared if continued and shared > len(prompt) // 8 else 0
