"""Repetition collapse: an answer that repeats itself, exactly or with other numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from localmtp.engine.sampling.near_copies import NearCopies

_CYCLES = 4
_MIN_TOKENS = 256
"""Length of text that must consist of repetitions: tables, refrains and runs of zeros are
shorter."""

_LONGEST = 512
"""Tokens of the longest cycle that is noticed: a few paragraphs."""

INTERVAL = 32
"""Answers are checked at multiples of this length, whatever was drafted; drafts are shorter."""

_NEAR_INTERVAL = 4 * INTERVAL
"""The same for near-copies, which take longer to find."""


def cycle_length(tokens: Sequence[int]) -> int:
    """Length of the cycle that ends an answer, in tokens; 0 if it does not repeat itself.

    A cycle has been written at least four times, and for at least 256 tokens.

    Args:
        tokens: ids of the answer.
    """
    if len(tokens) < _MIN_TOKENS:
        return 0
    text = np.array(tokens[-_CYCLES * _LONGEST :], np.int64)
    end = text.size
    same = (text[2:-1] == text[-1]) & (text[1:-2] == text[-2]) & (text[:-3] == text[-3])
    for at in reversed(same.nonzero()[0].tolist()):
        period = end - at - 3
        length = max(_MIN_TOKENS, _CYCLES * period)
        if length > end:
            return 0
        if np.array_equal(text[end - length : end - period], text[end - length + period :]):
            return int(period)
    return 0


class RepetitionGuard:
    """Follows the tokens of an answer.

    Args:
        piece: returns the bytes of a token.
    """

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._tokens: list[int] = []
        self._near = NearCopies(piece)
        self._near_cycle = 0
        self._near_from = 0
        """Length of the answer from which near-copies count: a draft that began before they were
        found ends before it."""
        self.cycle = 0
        """See `cycle_length`."""

    def read(self, token: int) -> bool:
        """Adds a token; returns whether the answer repeats itself."""
        self._tokens.append(token)
        if not (self.cycle or len(self._tokens) % INTERVAL):
            self._check()
        return self.cycle > 0

    def turns(self, drafted: Sequence[int]) -> bool:
        """Whether the answer would repeat itself with further tokens; they are not added."""
        begin = len(self._tokens)
        boundary = (begin // INTERVAL + 1) * INTERVAL
        if self.cycle or begin + len(drafted) < boundary:
            return self.cycle > 0
        if self._near_cycle and begin + len(drafted) >= self._near_from:
            return True
        return cycle_length([*self._tokens, *drafted[: boundary - begin]]) > 0

    def _check(self) -> None:
        length = len(self._tokens)
        if self._near_cycle and length >= self._near_from:
            self.cycle = self._near_cycle
            return
        self.cycle = cycle_length(self._tokens)
        if length % _NEAR_INTERVAL == 0:
            self._near.read(self._tokens[-_NEAR_INTERVAL:])
            if found := self._near.cycle_length():
                self._near_cycle, self._near_from = found, length + INTERVAL
