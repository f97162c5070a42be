"""A line of a list: something that may be cut, and columns at its right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

GAP = 2

LEAST = 20
"""Cells that the text keeps; columns that would leave it less are left out."""


class Columns:
    """Always one line, in whatever width there is.

    A grid of Rich's would look the same; but lists ask for the height of all their rows, and a
    grid tells it by drawing itself, which takes a hundred of them longer than a key may wait.

    Args:
        text: at the left.
        columns: at the right, each with the width that it has in all rows; the first matter most.
        muted: the colour of the columns.
    """

    def __init__(self, text: Text, columns: Sequence[tuple[str, int]], muted: str) -> None:
        self._text = text
        self._columns = columns
        self._muted = Style.parse(muted)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line."""
        left, width, right = self._text.copy(), options.max_width, ""
        for column, cells in self._columns:
            if (rest := width - cells - GAP) < LEAST:
                break
            width, right = rest, f"{right}{' ' * GAP}{column:>{cells}}"
        left.truncate(max(1, width), overflow="ellipsis", pad=True)
        line = Text.assemble(left, (right, self._muted), no_wrap=True, overflow="crop")
        yield from line.render(console, end="\n")
