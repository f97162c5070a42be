"""Code, highlighted while it grows without lexing it anew at every draw."""

from __future__ import annotations

import re
from contextlib import suppress

from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]
from rich.padding import Padding
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

from localmtp.tui.drawing.brush import Brush, Line

_FENCE = re.compile(r"^ *(?:```|~~~)([\w+#-]+)", re.MULTILINE)


def prepare(text: str) -> None:
    """Makes the lexers of the languages in a text, which takes long for the first of each.

    For a thread other than the one that draws.
    """
    for language in set(_FENCE.findall(text)):
        with suppress(ClassNotFound):
            get_lexer_by_name(language)


class CodeDrawing:
    """One fenced block.

    While the fence is open, each paragraph of code is lexed once, when the blank line
    after it arrives; the whole is lexed together when the fence closes, because a
    string may span paragraphs.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._done_chars = 0
        self._done_lines: list[Line] = []
        self._drawn_for: tuple[Brush, int] | None = None

    def lines(self, code: str, label: str, *, closed: bool, brush: Brush, width: int) -> list[Line]:
        """The label's line, then the code."""
        top = self._label(label, brush, width)
        if closed:
            return [top, *self._highlighted(code, brush, width)]
        if self._drawn_for != (brush, width):
            self._drawn_for, self._done_chars, self._done_lines = (brush, width), 0, []
        if (end := code.rfind("\n\n", self._done_chars)) >= 0:
            fresh = code[self._done_chars : end + 1]
            self._done_lines += self._highlighted(fresh, brush, width)
            self._done_chars = end + 1
        tail = code[self._done_chars :].rstrip("\n")
        return [top, *self._done_lines, *(self._highlighted(tail, brush, width) if tail else [])]

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
            # The lexer drops leading newlines; they are part of the block here.
            text = Text("\n" * (len(code) - len(code.lstrip("\n")))) + text
        return brush.lines(Padding(text, (0, 1), style=brush.code), width)
