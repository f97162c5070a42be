"""The throughput, beside the conversation."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from localmtp.tui.drawing import panel
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.drawing.panel import Figures
from localmtp.tui.recent import RecentSpeed


class Statistics(VerticalScroll, can_focus=False):
    """What the last or running answer cost; told anew several times a second."""

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._speed = RecentSpeed()
        self._shown = Figures()
        self._now = 0.0
        self._race_speed = 0.0
        self._text = Static()
        self._form = (0, "")

    def compose(self) -> ComposeResult:
        """One text: its lines change, its layout hardly ever."""
        yield self._text

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
        text = Text("\n\n").join(filter(None, sections))
        # The reason alone may be longer than a line.
        form = (text.plain.count("\n"), shown.drafting)
        self._text.update(text, layout=form != self._form)
        self._form = form
