"""A row of a list: text that may be truncated, and right-aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

GAP = 2

MIN_TEXT_WIDTH = 20
"""Cells reserved for the text; columns that would leave less are omitted."""


class ListRow:
    """Renders as exactly one line at any width.

    A Rich grid would look the same, but option lists measure all their rows, and measuring a grid
    renders it: a hundred rows would delay the next key noticeably.

    Args:
        text: left-aligned.
        columns: right-aligned, each with its width in cells; the most important first.
        muted: colour of the columns.
    """

    def __init__(self, text: Text, columns: Sequence[tuple[str, int]], muted: str) -> None:
        self._text = text
        self._columns = columns
        self._muted = Style.parse(muted)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Renders the line."""
        left, width, right = self._text.copy(), options.max_width, ""
        for column, cells in self._columns:
            if (rest := width - cells - GAP) < MIN_TEXT_WIDTH:
                break
            width, right = rest, f"{right}{' ' * GAP}{column:>{cells}}"
        left.truncate(max(1, width), overflow="ellipsis", pad=True)
        line = Text.assemble(left, (right, self._muted), no_wrap=True, overflow="crop")
        yield from line.render(console, end="\n")
