"""Rich styles of a palette, and rendering of Rich renderables to lines of segments."""

from __future__ import annotations

from io import StringIO

from pygments.token import (  # type: ignore[import-untyped]
    Comment,
    Error,
    Generic,
    Keyword,
    Name,
    Number,
    Operator,
    String,
)
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.syntax import ANSISyntaxTheme
from rich.theme import Theme as RichTheme

from localmtp.engine.events import Origin
from localmtp.tui.themes import Palette

Line = list[Segment]


class Brush:
    """Renders in the colours of one palette.

    Args:
        palette: the colours.
        monochrome: distinguish token origins by attributes instead of colours, for NO_COLOR.
        previews: whether images are drawn; never where colours are not.
    """

    def __init__(
        self, palette: Palette, *, monochrome: bool = False, previews: bool = True
    ) -> None:
        self.palette = palette
        self.previews = previews and not monochrome
        self.plain = Style(color=palette.foreground)
        self.brand = Style(color=palette.accent, bold=True)
        self.strong = Style(color=palette.foreground, bold=True)
        self.muted = Style(color=palette.muted)
        self.rule = Style(color=palette.rule)
        self.accent = Style(color=palette.accent)
        self.draft = Style(color=palette.draft)
        self.warning = Style(color=palette.correction)
        self.prefill = Style(color=palette.prefill)
        self.error = Style(color=palette.error)
        self.code = Style(color=palette.foreground, bgcolor=palette.surface)
        self.code_label = Style(color=palette.muted, bgcolor=palette.surface)
        self.corrected = Style(color=palette.correction, bold=monochrome, reverse=monochrome)
        self.origins = {
            Origin.DRAFT: Style(color=palette.draft, underline=monochrome),
            Origin.TARGET: self.plain,
            Origin.UNKNOWN: self.plain,
            Origin.PREFILL: Style(color=palette.prefill, italic=monochrome),
        }
        self.syntax = _syntax(palette)
        self._console = Console(
            file=StringIO(),
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
            # Textual applies NO_COLOR itself, to the rendered screen.
            no_color=False,
            theme=RichTheme(_markdown(palette)),
        )

    def lines(self, renderable: RenderableType, width: int, *, trimmed: bool = True) -> list[Line]:
        """Renders in `width` cells.

        Args:
            renderable: any Rich renderable.
            width: in cells, at least 1.
            trimmed: drop leading and trailing empty lines.
        """
        options = self._console.options.update(width=max(1, width), height=None)
        lines = self._console.render_lines(renderable, options, pad=False)
        while trimmed and lines and _is_empty(lines[-1]):
            lines.pop()
        while trimmed and lines and _is_empty(lines[0]):
            lines.pop(0)
        return lines


def _is_empty(line: Line) -> bool:
    return not any(
        segment.text.strip() or (segment.style and segment.style.bgcolor) for segment in line
    )


def _markdown(palette: Palette) -> dict[str, Style]:
    heading = Style(color=palette.foreground, bold=True)
    return {
        "markdown.h1": heading + Style(underline=True),
        **{f"markdown.h{level}": heading for level in range(2, 7)},
        "markdown.strong": Style(bold=True),
        "markdown.em": Style(italic=True),
        "markdown.s": Style(strike=True),
        "markdown.code": Style(color=palette.foreground, bgcolor=palette.raised),
        "markdown.item.bullet": Style(color=palette.muted),
        "markdown.item.number": Style(color=palette.muted),
        "markdown.block_quote": Style(color=palette.muted, italic=True),
        "markdown.hr": Style(color=palette.rule),
        "markdown.link": Style(color=palette.accent),
        "markdown.link_url": Style(color=palette.muted),
        "markdown.table.border": Style(color=palette.rule),
        "markdown.table.header": heading,
    }


def _syntax(palette: Palette) -> ANSISyntaxTheme:
    return ANSISyntaxTheme(
        {
            Comment: Style(color=palette.muted, italic=True),
            Keyword: Style(color=palette.prefill),
            Operator.Word: Style(color=palette.prefill),
            String: Style(color=palette.draft),
            Number: Style(color=palette.correction),
            Name.Function: Style(color=palette.accent),
            Name.Class: Style(color=palette.accent, bold=True),
            Name.Decorator: Style(color=palette.accent),
            Name.Tag: Style(color=palette.accent),
            Generic.Deleted: Style(color=palette.error),
            Generic.Inserted: Style(color=palette.draft),
            # Lexers mark incomplete lines as errors, which every line is while it is being written.
            Error: Style(),
        }
    )
