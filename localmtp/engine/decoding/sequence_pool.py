"""The sequences of a target: which one a prompt takes, and where the others' tokens wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from localmtp.engine.decoding.drafter import Drafter
from localmtp.engine.decoding.host_cache import HostCache
from localmtp.engine.decoding.sequence import MIN_SHARED, TargetSequence
from localmtp.engine.decoding.state import SequenceState

_IDLE_PASSES = 128
"""Passes of others after which an idle sequence is swapped out. Attention visits its cells in every
pass; visiting them this often costs about as much as copying them out and back in."""

_MOST_SWAPPED = 256 << 20
"""Bytes of host memory for cells of idle sequences."""


class SequencePool:
    """The sequences of a target, the free ones in order: the least recently used first.

    They share one pool of cells, so that answers with drafts of different lengths fit one pass,
    and attention visits the whole pool. So cells that nothing has used for a while are swapped out
    to host memory, and in again when a prompt continues them.

    Args:
        sequences: all free at first.
        drafter: whose caches belong to the states; None without one.
        max_cached: bytes of host memory for conversations whose sequence another one takes.
    """

    def __init__(
        self, sequences: Sequence[TargetSequence], drafter: Drafter | None, max_cached: int = 0
    ) -> None:
        self.all = sequences
        self._free = list(sequences)
        self._drafter = drafter
        self._passes = 0
        self._since = dict.fromkeys(sequences, 0)
        """Number of passes before each sequence became free."""
        context = sequences[0].context
        window = context.needs_checkpoints or context.model.n_swa > 0
        self._cache = HostCache(max_cached, prefix=MIN_SHARED, needs_checkpoints=window)

    @property
    def free(self) -> int:
        """Number of free sequences."""
        return len(self._free)

    def longest_prefix(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt that need not be prefilled."""
        held = max(sequence.shared_prefix(prompt) for sequence in self.all)
        return max(held, self._cache.saved(prompt))

    def take(self, prompt: Sequence[int]) -> TargetSequence:
        """Removes and returns the free sequence that holds most of a prompt, or else the oldest.

        A conversation in the cache is loaded if it saves more than the sequences do.
        BOS and the opening of a turn begin every prompt: for them no conversation is given up.
        """
        if self._recall(prompt):
            sequence = self._free.pop(0)
        else:
            worth = [_saved(sequence, prompt) for sequence in self._free]
            sequence = self._free.pop(worth.index(max(worth)))
            self._evict(sequence, prompt)
        if self._swap_out():
            # Swapped in after the holes are there, its cells precede those of the tokens to come.
            sequence.swap_out(_MOST_SWAPPED)
        return sequence

    def add(self, sequence: TargetSequence) -> None:
        """Adds a sequence whose answer has ended."""
        self._free.append(sequence)
        self._since[sequence] = self._passes

    def count_pass(self) -> None:
        """Counts a pass, by which sequences that have been idle for long are recognized."""
        self._passes += 1

    def state(self, sequence: TargetSequence) -> SequenceState | None:
        """Returns a copy of the state of a free sequence, see `TargetSequence.state`.

        With the drafter's caches.
        """
        state = sequence.state()
        if state is None or self._drafter is None:
            return state
        return replace(state, drafter=self._drafter.states(sequence))

    def load(self, state: SequenceState) -> bool:
        """Loads a state into the least recently used free sequence; requires `free`.

        Returns:
            Whether it succeeded.
        """
        sequence, drafter = self._free[0], self._drafter
        if sequence.load(state) and (drafter is None or drafter.load(sequence, state.drafter)):
            return True
        sequence.clear()
        return False

    def _recall(self, prompt: Sequence[int]) -> bool:
        """Loads a conversation of the cache into the oldest sequence, if that saves enough."""
        saved = self._cache.saved(prompt)
        if saved < MIN_SHARED + max(sequence.shared_prefix(prompt) for sequence in self.all):
            return False
        state = self._cache.pop(prompt)
        self._evict(self._free[0], ())
        return self.load(state)

    def _swap_out(self) -> int:
        """Swaps out sequences that have been idle for long.

        Only before an answer: an answer in progress would fill the holes, and with its cells in
        another order, attention rounds differently.

        Returns:
            Bytes that were moved.
        """
        most = left = _MOST_SWAPPED - sum(sequence.swapped_bytes for sequence in self.all)
        for sequence in self._free:
            if self._passes - self._since[sequence] >= _IDLE_PASSES:
                left -= sequence.swap_out(left)
        return most - left

    def _evict(self, sequence: TargetSequence, prompt: Sequence[int]) -> None:
        """Adds the state of a sequence to the cache if a prompt keeps little of it."""
        length = len(sequence.tokens)
        if not self._cache.max_bytes or length < MIN_SHARED:
            return
        if 2 * sequence.shared_prefix(prompt) < length and (state := self.state(sequence)):
            self._cache.add(state)


def _saved(sequence: TargetSequence, prompt: Sequence[int]) -> int:
    """Number of prompt tokens that a sequence saves; 0 if its own tokens are worth more."""
    shared = sequence.shared_prefix(prompt)
    continued = shared >= MIN_SHARED or 2 * shared >= len(sequence.tokens)
    return shared if continued and shared > len(prompt) // 8 else 0
