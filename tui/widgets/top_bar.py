"""What runs: the model, its drafter, and whether drafting is on."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from localmtp.tui.drawing.brush import Brush


class TopBar(Horizontal):
    """One line; what does not fit is cut at the right of each half."""

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._shown = ("", "", "")
        self._what = Static(id="running")
        self._how = Static(id="drafting")

    def compose(self) -> ComposeResult:
        """Left what runs, right how."""
        yield self._what
        yield self._how

    def show(self, model: str, drafter: str, drafting: str) -> None:
        """Shows names; `drafting` is empty until it is known."""
        if self._shown == (model, drafter, drafting):
            return
        self._shown = (model, drafter, drafting)
        brush = self._brush
        running = Text(no_wrap=True, overflow="ellipsis")
        running.append("localmtp", brush.brand).append(f"   {model}", brush.plain)
        if drafter:
            running.append(f"   drafter {drafter}", brush.muted)
        self._what.update(running)
        state = Text(no_wrap=True, overflow="ellipsis")
        if drafting == "on":
            state.append("● ", brush.draft).append("drafting on", brush.plain)
        elif drafting:
            state.append("○ ", brush.warning).append(f"drafting {drafting}", brush.plain)
        self._how.update(state)

    def repaint(self, brush: Brush) -> None:
        """In other colours."""
        self._brush = brush
        shown, self._shown = self._shown, ("", "", "")
        self.show(*shown)
