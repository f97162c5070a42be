"""Conversations that have lost their sequence, in host memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.decoding.state import SequenceState


class HostCache:
    """States of sequences, within a memory limit: the least recently added ones are dropped.

    Args:
        max_bytes: of all states.
        needs_checkpoints: whether a state can only be cut at its checkpoints.
    """

    def __init__(self, max_bytes: int, *, needs_checkpoints: bool) -> None:
        self.max_bytes = max_bytes
        self._needs_checkpoints = needs_checkpoints
        self._states: list[tuple[NDArray[np.int64], SequenceState]] = []

    def add(self, state: SequenceState) -> None:
        """Adds a state; those that it continues are dropped, as are the oldest beyond the limit."""
        tokens = np.array(state.tokens, np.int64)
        kept = [each for each in self._states if _shared(each[0], tokens) < len(each[0])]
        kept.append((tokens, state))
        size = sum(each.nbytes for _, each in kept)
        while size > self.max_bytes:
            size -= kept.pop(0)[1].nbytes
        self._states = kept

    def saved(self, prompt: Sequence[int]) -> int:
        """Number of tokens of a prompt that the best state saves."""
        return max((saved for saved, _ in self._usable(prompt)), default=0)

    def pop(self, prompt: Sequence[int]) -> SequenceState:
        """Removes and returns the state that saves most of a prompt; requires one."""
        _, at = max(self._usable(prompt))
        return self._states.pop(at)[1]

    def _usable(self, prompt: Sequence[int]) -> list[tuple[int, int]]:
        """Returns tokens saved by each state, and its index."""
        if not self._states:
            return []
        ids = np.array(prompt[:-1], np.int64)
        return [(self._cut(*state, ids), at) for at, state in enumerate(self._states)]

    def _cut(self, tokens: NDArray[np.int64], state: SequenceState, ids: NDArray[np.int64]) -> int:
        shared = _shared(tokens, ids)
        if shared == len(tokens) or not self._needs_checkpoints:
            return shared
        return max((at for at in state.checkpoints if at <= shared), default=0)


def _shared(tokens: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """Length of the longest common prefix."""
    most = min(len(tokens), len(others))
    differ = (tokens[:most] != others[:most]).nonzero()[0]
    return int(differ[0]) if differ.size else most
