"""Ids of media rows in prompts.

A prompt is a list of integers. Rows of images and sound are negative ones, made from a hash of the
content and the number of the row: equal for equal content, so that comparing prefixes works as for
tokens. They never reach a vocabulary.

With M-RoPE (Wang et al. 2024, arXiv:2409.12191) an image of h x w rows takes max(h, w) positions of
the text. An id tells whether its row takes one, so a prompt alone says the position of each entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

_ROW_BITS = 20
MAX_ROWS = 1 << _ROW_BITS
"""Most rows of an image or a sound: eleven hours of sound."""

_HASH_BITS = 42
"""With the bits of the row and the next one, ids fit 64 bits with their sign."""

_SURPLUS = 1 << (_HASH_BITS + _ROW_BITS)
"""Bit of rows that take no position."""


def media_ids(content: str, rows: int, positions: int) -> tuple[int, ...]:
    """Returns the ids of an image or sound, row by row.

    Args:
        content: identifies what was encoded, and how.
        rows: at most `MAX_ROWS`.
        positions: number of positions that they take, at most `rows`.
    """
    digest = int.from_bytes(sha256(content.encode()).digest()[:8], "big") >> (64 - _HASH_BITS)
    first = -1 - (digest << _ROW_BITS)
    shared = first - _SURPLUS
    return (*range(first, first - positions, -1), *range(shared - positions, shared - rows, -1))


def is_row(token: int) -> bool:
    """Whether an entry of a prompt is a media row, not a token."""
    return token < 0


def row_number(token: int) -> int:
    """Number of a row in its image or sound, 0 for the first."""
    return (-1 - token) & (MAX_ROWS - 1)


def surplus_rows(tokens: Sequence[int]) -> int:
    """Number of entries of a prompt that take no position."""
    if not tokens or min(tokens) >= -_SURPLUS:
        return 0
    return sum(token < -_SURPLUS for token in tokens)
