"""Ids of media rows in prompts.

A prompt is a list of integers. Rows of images and sound are negative ones, made from a hash of the
content and the number of the row: equal for equal content, so that comparing prefixes works as for
tokens. They never reach a vocabulary.
"""

from __future__ import annotations

from hashlib import sha256

_ROW_BITS = 20
MAX_ROWS = 1 << _ROW_BITS
"""Most rows of an image or a sound: eleven hours of sound."""

_HASH_BITS = 42
"""With the bits of the row, ids fit 64 bits with their sign."""


def media_ids(content: str, rows: int) -> tuple[int, ...]:
    """Returns the ids of an image or sound, row by row.

    Args:
        content: identifies what was encoded, and how.
        rows: at most `MAX_ROWS`.
    """
    digest = int.from_bytes(sha256(content.encode()).digest()[:8], "big") >> (64 - _HASH_BITS)
    first = -1 - (digest << _ROW_BITS)
    return tuple(range(first, first - rows, -1))


def is_row(token: int) -> bool:
    """Whether an entry of a prompt is a media row, not a token."""
    return token < 0


def row_number(token: int) -> int:
    """Number of a row in its image or sound, 0 for the first."""
    return (-1 - token) & (MAX_ROWS - 1)
