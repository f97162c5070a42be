"""Conversations that have lost their sequence, in host memory."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.decoding.state import SequenceState

_MOST_STATES = 256
"""All that begin like a prompt are compared with it."""


class HostCache:
    """States of sequences, within a memory limit: the least recently added ones are dropped.

    Args:
        max_bytes: of all states.
        prefix: number of tokens that a state must save.
        needs_checkpoints: whether a state can only be cut at its checkpoints.
    """

    def __init__(self, max_bytes: int, *, prefix: int, needs_checkpoints: bool) -> None:
        self.max_bytes = max_bytes
        self._prefix = prefix
        self._needs_checkpoints = needs_checkpoints
        self._states: OrderedDict[int, tuple[NDArray[np.int64], SequenceState]] = OrderedDict()
        """Token ids and state by number, the oldest first."""
        self._alike: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        """Numbers of states by their first tokens."""
        self._added = self._bytes = 0

    def add(self, state: SequenceState) -> None:
        """Adds a state; those that it continues are dropped, as are the oldest beyond the limit."""
        tokens = np.array(state.tokens, np.int64)
        for number in [*self._alike[self._begin(state.tokens)]]:
            earlier = self._states[number][0]
            if _shared(earlier, tokens) == len(earlier):
                self._remove(number)
        self._added += 1
        self._states[self._added] = tokens, state
        self._alike[self._begin(state.tokens)].add(self._added)
        self._bytes += state.nbytes
        while self._bytes > self.max_bytes or len(self._states) > _MOST_STATES:
            self._remove(next(iter(self._states)))

    def saved(self, prompt: Sequence[int]) -> int:
        """Number of tokens of a prompt that the best state saves."""
        return max((saved for saved, _ in self._usable(prompt)), default=0)

    def pop(self, prompt: Sequence[int]) -> SequenceState:
        """Removes and returns the state that saves most of a prompt; requires one."""
        return self._remove(max(self._usable(prompt))[1])

    def _usable(self, prompt: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yields tokens saved by each state that begins like a prompt, and its number."""
        alike = self._alike.get(self._begin(prompt))
        ids = np.array(prompt[:-1] if alike else (), np.int64)
        for number in alike or ():
            tokens, state = self._states[number]
            shared = _shared(tokens, ids)
            if shared < len(tokens) and self._needs_checkpoints:
                shared = max((at for at in state.checkpoints if at <= shared), default=0)
            yield shared, number

    def _remove(self, number: int) -> SequenceState:
        _, state = self._states.pop(number)
        alike = self._alike[begin := self._begin(state.tokens)]
        alike.discard(number)
        if not alike:
            del self._alike[begin]
        self._bytes -= state.nbytes
        return state

    def _begin(self, tokens: Sequence[int]) -> tuple[int, ...]:
        return tuple(tokens[: self._prefix])


def _shared(tokens: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """Length of the longest common prefix."""
    most = min(len(tokens), len(others))
    differ = (tokens[:most] != others[:most]).nonzero()[0]
    return int(differ[0]) if differ.size else most
