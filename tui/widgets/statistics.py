"""The statistics panel, to the right of the conversation."""

from __future__ import annotations

from itertools import chain

from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from localmtp.tui.rendering import statistics
from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.recent_speed import RecentSpeed
from localmtp.tui.rendering.statistics import PanelData

_SECTIONS = 7


class Statistics(ScrollView, can_focus=False):
    """Shows the statistics of the running or the last answer, updated several times a second.

    Only lines that changed are repainted: most stay the same.
    """

    ALLOW_SELECT = False

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._recent = RecentSpeed()
        self._data = PanelData()
        self._current = 0.0
        self._race_tokens_per_s = 0.0
        self._sections: list[tuple[Text | None, list[Line]]] = [(None, [])] * _SECTIONS
        self._lines: list[Line] = []
        self._base_style = Style()

    def on_mount(self) -> None:
        """Shows an empty panel."""
        self._draw()

    def show(self, data: PanelData) -> None:
        """Shows new statistics."""
        self._data = data
        if stats := data.stats:
            current = self._recent.add(stats)
            self._current = current if data.writing else stats.decode_tokens_per_s
        self._draw()

    def reset(self) -> None:
        """Discards measured speeds, which do not apply to another model."""
        self._recent, self._race_tokens_per_s, self._current = RecentSpeed(), 0.0, 0.0

    def compare(self, race_tokens_per_s: float) -> None:
        """Sets the decode speed with drafting off that speedups refer to.

        Args:
            race_tokens_per_s: measured by a race; 0 where it was not.
        """
        self._race_tokens_per_s = race_tokens_per_s
        self._draw()

    def repaint(self, brush: Brush) -> None:
        """Redraws in other colours."""
        self._brush = brush
        self._draw()

    def _draw(self) -> None:
        brush, data = self._brush, self._data
        stats = data.stats
        sections = (
            statistics.decode_section(brush, stats, self._current, self._recent.history),
            statistics.drafting_section(brush, data, self._race_tokens_per_s),
            statistics.position_section(brush, stats),
            statistics.prefill_section(brush, stats, data.prefilled if data.writing else None),
            statistics.time_section(brush, stats.time)
            if stats and stats.time.verify_s > 0
            else None,
            statistics.context_section(brush, stats),
            statistics.memory_section(brush, data),
        )
        self._sections = [
            (text, lines if text == same else self._rendered(text))
            for text, (same, lines) in zip(sections, self._sections, strict=True)
        ]
        paragraphs = [[*lines, []] for _, lines in self._sections if lines]
        before, self._lines = self._lines, list(chain.from_iterable(paragraphs))
        if len(before) != len(self._lines):
            self.virtual_size = Size(statistics.WIDTH, len(self._lines))
            self.refresh()
        pairs = enumerate(zip(before, self._lines, strict=False))
        for y in (y for y, (was, now) in pairs if was != now):
            self.refresh(Region(0, y - self.scroll_offset.y, statistics.WIDTH, 1))

    def _rendered(self, text: Text | None) -> list[Line]:
        return self._brush.lines(text, statistics.WIDTH, trimmed=False) if text else []

    def render_lines(self, crop: Region) -> list[Strip]:
        """Renders some lines, with the base style computed once."""
        self._base_style = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Renders one line, cropped to the widget."""
        y += self.scroll_offset.y
        line = self._lines[y] if y < len(self._lines) else []
        return Strip(line).adjust_cell_length(self.size.width).apply_style(self._base_style)
