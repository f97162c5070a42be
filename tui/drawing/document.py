"""Markdown that grows: what is settled is drawn once, the open block at every draw.

Textual's own Markdown makes a widget of every block and list item, and a conversation
of a hundred answers then costs seconds to lay out; here an answer is a list of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import BlockQuote, Heading, ListItem, Markdown, MarkdownElement
from rich.segment import Segment

from localmtp.tui.drawing.brush import Brush, Line
from localmtp.tui.drawing.code import CodeDrawing

# Without `html`, tags in an answer are shown as text instead of vanishing.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


class _LeftHeading(Heading):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Quote(BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style = console.get_style("markdown.block_quote")
        bar = Segment("│ ", console.get_style("markdown.hr"))
        inner = options.update(width=max(1, options.max_width - 2))
        for line in console.render_lines(self.elements, inner, style=style, pad=False):
            yield from (bar, *line, Segment.line())


class _Item(ListItem):
    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        numeral = f" {number}. "
        inner = options.update(width=max(1, options.max_width - len(numeral)))
        style = console.get_style("markdown.item.number")
        lead = Segment(numeral, style)
        for line in console.render_lines(self.elements, inner, pad=False):
            yield from (lead, *line, Segment.line())
            lead = Segment(" " * len(numeral))


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "blockquote_open": _Quote,
        "list_item_open": _Item,
    }

    def of(self, tokens: list[Token]) -> _Markdown:
        """What was parsed elsewhere, to be drawn."""
        drawn = copy(self)
        drawn.parsed = tokens
        return drawn


# Made once: Rich makes a parser for each, which takes longer than to draw a block.
_EMPTY = _Markdown("", hyperlinks=False)


@dataclass(slots=True)
class Block:
    """One top-level piece of a document: a paragraph, a list item, a fence, a table ..."""

    tokens: list[Token]
    text: str
    first_line: int
    is_item: bool
    code: CodeDrawing | None
    after_blank: bool
    closed: bool = True
    drawn_for: tuple[Brush, int] | None = None
    drawn: list[Line] | None = None

    @property
    def source(self) -> str:
        """The code of a fence."""
        return self.tokens[0].content

    def lines(self, brush: Brush, width: int, label: str) -> list[Line]:
        """Draws, or returns what was drawn before for this brush and width."""
        if self.drawn is None or self.drawn_for != (brush, width):
            if self.code:
                self.drawn = self.code.lines(
                    self.source, label, closed=self.closed, brush=brush, width=width
                )
            else:
                self.drawn = brush.lines(_EMPTY.of(self.tokens), width)
            self.drawn_for = (brush, width)
        return self.drawn


class Document:
    """A Markdown text and its lines.

    Args:
        text: a finished one; parsed when it is drawn, as most of a long conversation never is.
    """

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._settled: list[Block] = []
        self._open: Block | None = None
        self._open_at = 0
        self._is_parsed = not text

    def append(self, text: str) -> None:
        """Adds text; only the block that was open is parsed again."""
        self.text += text
        tail = self.text[self._open_at :]
        blocks = list(_blocks(tail))
        if not blocks:
            return
        if self._open and _same_language(self._open.code, blocks[0].code):
            blocks[0].code = self._open.code
        if self._open:
            blocks[0].after_blank = self._open.after_blank
        *settled, self._open = blocks
        self._open.closed = _is_closed(self._open, tail)
        self._settled += settled
        lines = tail.splitlines(keepends=True)
        self._open_at += sum(map(len, lines[: self._open.first_line]))
        self._open.first_line = 0

    def finish(self) -> None:
        """No more text will come."""
        if self._is_parsed:
            self._parse_anew()

    def _parse_anew(self) -> None:
        """Parses the whole at once: a late link definition may change early text."""
        blocks = [*self._settled, self._open] if self._open else self._settled
        drawn = {block.text: block for block in blocks if block.closed}
        self._settled, self._open, self._is_parsed = list(_blocks(self.text)), None, True
        for block in self._settled:
            if (same := drawn.get(block.text)) and same.is_item == block.is_item:
                block.drawn, block.drawn_for = same.drawn, same.drawn_for

    def code_blocks(self) -> list[str]:
        """The code of every fence, in order; label N names item N - 1."""
        return [block.source for block in self._blocks() if block.code]

    def lines(self, brush: Brush, width: int) -> list[Line]:
        """The document in `width` cells."""
        lines: list[Line] = []
        fences, previous_is_item = 0, False
        for block in self._blocks():
            fences += block.code is not None
            if lines and not (previous_is_item and block.is_item and not block.after_blank):
                lines.append([])
            lines += block.lines(brush, width, f"copy {fences}")
            previous_is_item = block.is_item
        return lines

    def _blocks(self) -> list[Block]:
        if not self._is_parsed:
            self._parse_anew()
        return [*self._settled, self._open] if self._open else self._settled


def _blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    for tokens in _groups(_PARSER.parse(text), level=0):
        head = tokens[0]
        if head.type in ("bullet_list_open", "ordered_list_open"):
            for item in _groups(tokens[1:-1], level=1):
                # Each item is drawn as a list of its own: a growing list stays cheap.
                start = {"start": int(item[0].info)} if item[0].info else {}
                opening = Token(head.type, head.tag, 1, attrs=dict(start))
                yield _block([opening, *item, tokens[-1]], item[0], lines, is_item=True)
        else:
            yield _block(tokens, head, lines, is_item=False)


def _block(tokens: list[Token], head: Token, lines: list[str], *, is_item: bool) -> Block:
    first = head.map[0] if head.map else 0
    after_blank = first > 0 and not lines[first - 1].strip()
    code = None
    if head.type in ("fence", "code_block"):
        code = CodeDrawing(head.info.split(maxsplit=1)[0] if head.info.strip() else "")
    text = "\n".join(lines[slice(*head.map)]) if head.map else ""
    return Block(tokens, text, first, is_item, code, after_blank)


def _groups(tokens: list[Token], level: int) -> Iterator[list[Token]]:
    """Runs of tokens that open and close on `level`."""
    group: list[Token] = []
    for token in tokens:
        group.append(token)
        if token.level == level and token.nesting <= 0:
            yield group
            group = []


def _same_language(one: CodeDrawing | None, other: CodeDrawing | None) -> bool:
    return one is not None and other is not None and one.language == other.language


def _is_closed(block: Block, tail: str) -> bool:
    token = block.tokens[0]
    lines = tail.splitlines()[block.first_line :]
    return token.type != "fence" or (len(lines) > 1 and lines[-1].strip().startswith(token.markup))
