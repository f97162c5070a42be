"""Incremental Markdown: complete blocks are rendered once, only the open block again.

Textual's Markdown widget mounts a widget for every block and list item, which takes seconds to
lay out in a conversation of a hundred answers. Here an answer is a list of lines.
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

from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.code_block import CodeBlock

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

    def with_tokens(self, tokens: list[Token]) -> _Markdown:
        """Returns a copy that renders tokens parsed elsewhere."""
        markdown = copy(self)
        markdown.parsed = tokens
        return markdown


# Created once: Rich creates a parser for each, which takes longer than rendering a block.
_TEMPLATE = _Markdown("", hyperlinks=False)


@dataclass(slots=True)
class MarkdownBlock:
    """A top-level block: a paragraph, a list item, a fence or a table."""

    tokens: list[Token]
    text: str
    first_line: int
    is_item: bool
    code: CodeBlock | None
    after_blank: bool
    closed: bool = True
    rendered_for: tuple[Brush, int] | None = None
    rendered: list[Line] | None = None

    @property
    def source(self) -> str:
        """Code of a fence."""
        return self.tokens[0].content

    def lines(self, brush: Brush, width: int, label: str) -> list[Line]:
        """Renders the block, once for each brush and width."""
        if self.rendered is None or self.rendered_for != (brush, width):
            if self.code:
                self.rendered = self.code.lines(
                    self.source, label, closed=self.closed, brush=brush, width=width
                )
            else:
                self.rendered = brush.lines(_TEMPLATE.with_tokens(self.tokens), width)
            self.rendered_for = (brush, width)
        return self.rendered


class MarkdownDocument:
    """Renders a Markdown text that may still grow.

    Args:
        text: a complete text; parsed on first use, since most of a long conversation is never
            shown.
    """

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._settled: list[MarkdownBlock] = []
        self._open: MarkdownBlock | None = None
        self._open_at = 0
        self._is_parsed = not text

    def append(self, text: str) -> None:
        """Appends text and parses the open block again."""
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
        """Ends the text: parses it as a whole if it grew."""
        if self._is_parsed:
            self._parse_all()

    def _parse_all(self) -> None:
        """Parses the whole text: a link definition at the end may change text before it."""
        blocks = [*self._settled, self._open] if self._open else self._settled
        rendered = {block.text: block for block in blocks if block.closed}
        self._settled, self._open, self._is_parsed = list(_blocks(self.text)), None, True
        for block in self._settled:
            if (same := rendered.get(block.text)) and same.is_item == block.is_item:
                block.rendered, block.rendered_for = same.rendered, same.rendered_for

    def code_blocks(self) -> list[str]:
        """Returns the code of every fence in order; the label `copy N` belongs to item N - 1."""
        return [block.source for block in self._blocks() if block.code]

    def lines(self, brush: Brush, width: int) -> list[Line]:
        """Renders the document in `width` cells."""
        lines: list[Line] = []
        fences, previous_is_item = 0, False
        for block in self._blocks():
            fences += block.code is not None
            if lines and not (previous_is_item and block.is_item and not block.after_blank):
                lines.append([])
            lines += block.lines(brush, width, f"copy {fences}")
            previous_is_item = block.is_item
        return lines

    def _blocks(self) -> list[MarkdownBlock]:
        if not self._is_parsed:
            self._parse_all()
        return [*self._settled, self._open] if self._open else self._settled


def _blocks(text: str) -> Iterator[MarkdownBlock]:
    lines = text.splitlines()
    for tokens in _groups(_with_line_breaks(_PARSER.parse(text)), level=0):
        head = tokens[0]
        if head.type in ("bullet_list_open", "ordered_list_open"):
            for item in _groups(tokens[1:-1], level=1):
                # Each item is rendered as a list of its own, so that a growing list stays cheap.
                start = {"start": int(item[0].info)} if item[0].info else {}
                opening = Token(head.type, head.tag, 1, attrs=dict(start))
                yield _block([opening, *item, tokens[-1]], item[0], lines, is_item=True)
        else:
            yield _block(tokens, head, lines, is_item=False)


def _with_line_breaks(tokens: list[Token]) -> list[Token]:
    """Turns soft breaks into line breaks: models end a line where a line ends."""
    for token in tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return tokens


def _block(tokens: list[Token], head: Token, lines: list[str], *, is_item: bool) -> MarkdownBlock:
    first = head.map[0] if head.map else 0
    after_blank = first > 0 and not lines[first - 1].strip()
    code = None
    if head.type in ("fence", "code_block"):
        code = CodeBlock(head.info.split(maxsplit=1)[0] if head.info.strip() else "")
    text = "\n".join(lines[slice(*head.map)]) if head.map else ""
    return MarkdownBlock(tokens, text, first, is_item, code, after_blank)


def _groups(tokens: list[Token], level: int) -> Iterator[list[Token]]:
    """Yields runs of tokens that open and close on `level`."""
    group: list[Token] = []
    for token in tokens:
        group.append(token)
        if token.level == level and token.nesting <= 0:
            yield group
            group = []


def _same_language(one: CodeBlock | None, other: CodeBlock | None) -> bool:
    return one is not None and other is not None and one.language == other.language


def _is_closed(block: MarkdownBlock, tail: str) -> bool:
    token = block.tokens[0]
    lines = tail.splitlines()[block.first_line :]
    return token.type != "fence" or (len(lines) > 1 and lines[-1].strip().startswith(token.markup))
