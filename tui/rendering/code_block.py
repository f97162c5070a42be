"""Fenced code, highlighted incrementally while it grows."""

from __future__ import annotations

import re
from contextlib import suppress

from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]
from rich.padding import Padding
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

from localmtp.tui.rendering.brush import Brush, Line

_FENCE = re.compile(r"^ *(?:```|~~~)([\w+#-]+)", re.MULTILINE)


def load_lexers(text: str) -> None:
    """Loads the lexers of the languages in a text.

    Loading the first lexer of a language is slow: call this outside the event loop's thread.
    """
    for language in set(_FENCE.findall(text)):
        with suppress(ClassNotFound):
            get_lexer_by_name(language)


class CodeBlock:
    """Renders one fenced block.

    While the fence is open, each paragraph of code is lexed once, when the blank line after it
    arrives. When the fence closes, the block is lexed as a whole, because a string may span
    paragraphs.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._lexed_chars = 0
        self._lexed_lines: list[Line] = []
        self._rendered_for: tuple[Brush, int] | None = None

    def lines(self, code: str, label: str, *, closed: bool, brush: Brush, width: int) -> list[Line]:
        """Renders the label's line, then the code.

        Args:
            code: so far.
            label: right-aligned in the first line.
            closed: whether the closing fence has arrived.
            brush: for the colours.
            width: in cells.
        """
        top = self._label(label, brush, width)
        if closed:
            return [top, *self._highlighted(code, brush, width)]
        if self._rendered_for != (brush, width):
            self._rendered_for, self._lexed_chars, self._lexed_lines = (brush, width), 0, []
        if (end := code.rfind("\n\n", self._lexed_chars)) >= 0:
            fresh = code[self._lexed_chars : end + 1]
            self._lexed_lines += self._highlighted(fresh, brush, width)
            self._lexed_chars = end + 1
        tail = code[self._lexed_chars :].rstrip("\n")
        return [top, *self._lexed_lines, *(self._highlighted(tail, brush, width) if tail else [])]

    def _label(self, label: str, brush: Brush, width: int) -> Line:
        left, right = f" {self.language or 'text'}", f"{label} "
        middle = " " * max(1, width - len(left) - len(right))
        return [Segment(f"{left}{middle}{right}", brush.code_label)]

    def _highlighted(self, code: str, brush: Brush, width: int) -> list[Line]:
        syntax = Syntax(code, self.language or "text", theme=brush.syntax, tab_size=4)
        text = syntax.highlight(code)
        text.rstrip()
        text.no_wrap, text.overflow = False, "fold"
        if code.startswith("\n"):
            # The lexer drops leading newlines, which belong to the block.
            text = Text("\n" * (len(code) - len(code.lstrip("\n")))) + text
        return brush.lines(Padding(text, (0, 1), style=brush.code), width)
