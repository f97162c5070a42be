"""The throughput, beside the conversation."""

from __future__ import annotations

from itertools import chain

from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from localmtp.tui.drawing import panel
from localmtp.tui.drawing.brush import Brush, Line
from localmtp.tui.drawing.panel import Figures
from localmtp.tui.drawing.recent import RecentSpeed

_SECTIONS = 7


class Statistics(ScrollView, can_focus=False):
    """What the last or running answer cost; told anew several times a second.

    Only lines that changed are painted again: most of them stand still.
    """

    ALLOW_SELECT = False

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._speed = RecentSpeed()
        self._shown = Figures()
        self._now = 0.0
        self._race_speed = 0.0
        self._drawn: list[tuple[Text | None, list[Line]]] = [(None, [])] * _SECTIONS
        self._lines: list[Line] = []
        self._beneath = Style()

    def on_mount(self) -> None:
        """Shows that nothing was measured yet."""
        self._draw()

    def show(self, figures: Figures) -> None:
        """Shows numbers."""
        self._shown = figures
        if stats := figures.stats:
            now = self._speed.add(stats)
            self._now = now if figures.writing else stats.decode_tokens_per_s
        self._draw()

    def forget(self) -> None:
        """Another model answers: what was measured does not hold for it."""
        self._speed, self._race_speed, self._now = RecentSpeed(), 0.0, 0.0

    def compare(self, race_speed: float) -> None:
        """Shows speeds also as multiples of one without drafting.

        Args:
            race_speed: in tokens/s, measured by a race; 0 where it was not.
        """
        self._race_speed = race_speed
        self._draw()

    def repaint(self, brush: Brush) -> None:
        """In other colours."""
        self._brush = brush
        self._draw()

    def _draw(self) -> None:
        brush, shown = self._brush, self._shown
        stats = shown.stats
        sections = (
            panel.headline(brush, stats, self._now, self._speed.history),
            panel.drafting(brush, shown, self._race_speed),
            panel.by_position(brush, stats),
            panel.prompt(brush, stats, shown.prefilled if shown.writing else None),
            panel.time(brush, stats.time) if stats and stats.time.verify_s > 0 else None,
            panel.context(brush, stats),
            panel.memory(brush, shown),
        )
        self._drawn = [
            (text, lines if text == same else self._paragraph(text))
            for text, (same, lines) in zip(sections, self._drawn, strict=True)
        ]
        paragraphs = [[*lines, []] for _, lines in self._drawn if lines]
        before, self._lines = self._lines, list(chain.from_iterable(paragraphs))
        if len(before) != len(self._lines):
            self.virtual_size = Size(panel.WIDTH, len(self._lines))
            self.refresh()
        pairs = enumerate(zip(before, self._lines, strict=False))
        for y in (y for y, (was, now) in pairs if was != now):
            self.refresh(Region(0, y - self.scroll_offset.y, panel.WIDTH, 1))

    def _paragraph(self, text: Text | None) -> list[Line]:
        return self._brush.lines(text, panel.WIDTH, trimmed=False) if text else []

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines; the style beneath them is worked out once."""
        self._beneath = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line, cut to the window."""
        y += self.scroll_offset.y
        line = self._lines[y] if y < len(self._lines) else []
        return Strip(line).adjust_cell_length(self.size.width).apply_style(self._beneath)
