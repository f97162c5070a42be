"""Sentences that an answer writes again and again, with other numbers or a few other words.

Lists, tables, logs and code repeat too, so only prose is looked at, and only long after exact
cycles would have been noticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_CYCLES = 8
_MIN_SYMBOLS = 2048
"""Length of text that must consist of near-copies: about 1,400 words."""

_LONGEST = 384
"""Symbols of the longest cycle that is noticed."""

_SAME = 0.95
"""Share of symbols that equal those one cycle before."""

_PROSE = 0.5
_MIN_WORDS = 6
"""Share and number of words among the symbols of a cycle; rows of tables have fewer."""

_NUMBER = -1
_DIGITS = re.compile(rb"[ ]?[0-9]+")

Ints = NDArray[np.int64]


class NearCopies:
    """Follows the tokens of an answer.

    Args:
        piece: returns the bytes of a token.
    """

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._kinds: dict[int, tuple[int, bool]] = {}
        self._symbols: list[int] = []
        """Token ids; `_NUMBER` for numbers of any length."""
        self._words: list[bool] = []
        """Whether a symbol is a word with a space before it, as in prose."""
        self._ends: list[int] = []
        """Number of tokens up to each symbol."""
        self._read = 0

    def read(self, tokens: Sequence[int]) -> None:
        """Adds tokens; neighbouring numbers are one symbol."""
        for token in tokens:
            self._read += 1
            kind = self._kinds.get(token)
            if kind is None:
                kind = self._kinds[token] = self._kind(token)
            symbol, is_word = kind
            if symbol == _NUMBER and self._symbols and self._symbols[-1] == _NUMBER:
                self._ends[-1] = self._read
                continue
            self._symbols.append(symbol)
            self._words.append(is_word)
            self._ends.append(self._read)

    def cycle_length(self) -> int:
        """Returns the length of the cycle in tokens; 0 if the answer does not repeat itself."""
        if len(self._symbols) < _MIN_SYMBOLS:
            return 0
        text = np.array(self._symbols[-_CYCLES * _LONGEST :], np.int64)
        words = np.array(self._words[-_LONGEST:], np.bool_)
        end = text.size
        same = (text[2:-1] == text[-1]) & (text[1:-2] == text[-2]) & (text[:-3] == text[-3])
        for at in reversed(same.nonzero()[0].tolist()):
            period = end - at - 3
            length = max(_MIN_SYMBOLS, _CYCLES * period)
            if length > end or period > _LONGEST:
                return 0
            if _is_prose(words[-period:]) and _repeats(text[end - length :], period):
                return int(self._ends[-1] - self._ends[-1 - period])
        return 0

    def _kind(self, token: int) -> tuple[int, bool]:
        """Symbol of a token, and whether it is a word."""
        data = self._piece(token) if token >= 0 else b""
        if _DIGITS.fullmatch(data):
            return _NUMBER, False
        text = data.decode(errors="ignore")
        return token, text[:1] == " " and text[1:2].isalpha()


def _is_prose(words: NDArray[np.bool_]) -> bool:
    count = int(words.sum())
    return count >= _MIN_WORDS and count >= _PROSE * words.size


def _repeats(text: Ints, period: int) -> bool:
    return bool((text[period:] == text[:-period]).mean() >= _SAME)
