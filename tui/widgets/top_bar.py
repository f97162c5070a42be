"""The top line: model, drafter and drafting state."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.formatting import show_controls

GAP = 3
"""Cells between the parts."""

MIN_MODEL_WIDTH = 16
"""Cells reserved for the model's name when the reason for drafting being off is long."""


class TopBar(Horizontal):
    """Shows model and drafter on the left, the drafting state on the right.

    On narrow screens the drafter's name is omitted first, then the program's name, then the
    reason why drafting is off is truncated; the model's name stays.
    """

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._shown = ("", "", "")
        self._model = Static(id="running")
        self._drafting = Static(id="drafting")

    def compose(self) -> ComposeResult:
        """Yields the two halves."""
        yield self._model
        yield self._drafting

    def show(self, model: str, drafter: str, drafting: str) -> None:
        """Shows names and state; `drafter` and `drafting` are empty until they are known."""
        shown = (show_controls(model), show_controls(drafter), show_controls(drafting))
        if self._shown != shown:
            self._shown = shown
            self._draw()

    def repaint(self, brush: Brush) -> None:
        """Redraws in other colours."""
        self._brush = brush
        self._draw()

    def on_resize(self) -> None:
        """Fits the names to the new width."""
        self._draw()

    def _draw(self) -> None:
        model, drafter, drafting = self._shown
        brush, width = self._brush, self.content_size.width
        state = Text(no_wrap=True, overflow="ellipsis")
        if drafting == "on":
            state.append("● ", brush.draft).append("drafting on", brush.plain)
        elif drafting:
            state.append("○ ", brush.warning).append(f"drafting {drafting}", brush.plain)
        name = Text(model, brush.plain)
        name_width = min(name.cell_len, max(MIN_MODEL_WIDTH, width - state.cell_len - GAP))
        state.truncate(max(1, width - name_width - GAP), overflow="ellipsis")
        self._drafting.update(state)
        brand = Text.assemble(("localmtp", brush.brand), " " * GAP)
        suffix = Text(f"{' ' * GAP}drafter {drafter}" if drafter else "", brush.muted)
        available = width - state.cell_len - GAP
        line = Text(no_wrap=True, overflow="ellipsis")
        for parts in ((brand, name, suffix), (brand, name), (name,)):
            line = Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
            if line.cell_len <= available:
                break
        self._model.update(line)
