"""The line above the prompt: what happens now, and what was just done."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Static

NOTE_S = 4.0
"""How long a note stands: long enough to read a line."""


class Activity(Horizontal):
    """Left the state, right a note or a summary of the statistics."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._timer: Timer | None = None
        self._summary = Text()

    def compose(self) -> ComposeResult:
        """Two halves."""
        yield Static(id="state")
        yield Static(id="aside")

    def show(self, state: str, summary: str = "") -> None:
        """Shows the state, and on the right the summary unless a note stands there."""
        self.query_one("#state", Static).update(
            Text(state, no_wrap=True, overflow="ellipsis"), layout=False
        )
        self._summary = Text(summary, no_wrap=True, overflow="ellipsis")
        if not self._timer:
            self.query_one("#aside", Static).update(self._summary)

    def note(self, text: str) -> None:
        """Says for a moment what was done."""
        if self._timer:
            self._timer.stop()
        self.query_one("#aside", Static).update(Text(text, no_wrap=True, overflow="ellipsis"))
        self._timer = self.set_timer(NOTE_S, self._forget)

    def _forget(self) -> None:
        self._timer = None
        self.query_one("#aside", Static).update(self._summary)
