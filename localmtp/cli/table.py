"""Aligned tables on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.cli import output

_NUMERIC = frozenset("0123456789")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a head; columns of numbers are right-aligned.

    Args:
        head: the column names.
        rows: one cell per column.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    right = [all(row[i][:1] in _NUMERIC for row in rows) for i in range(len(head))]
    for row in (head, *rows):
        words = (
            word.rjust(width) if is_right else word.ljust(width)
            for word, width, is_right in zip(row, widths, right, strict=True)
        )
        output.line("  ".join(words).rstrip())


def gigabytes(nbytes: float) -> str:
    """Return a human-readable size in powers of a thousand, as the hub does."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


def tokens(count: int) -> str:
    """Return a human-readable number of tokens."""
    return f"{count // 1024}k" if count >= 1024 else str(count)
