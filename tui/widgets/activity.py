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
        self._state = Static(id="state")
        self._aside = Static(id="aside")

    def compose(self) -> ComposeResult:
        """Two halves."""
        yield self._state
        yield self._aside

    def show(self, state: str, summary: str = "") -> None:
        """Shows the state, and on the right the summary unless a note stands there."""
        self._state.update(Text(state, no_wrap=True, overflow="ellipsis"), layout=False)
        changed = self._summary.plain != summary
        self._summary = Text(summary, no_wrap=True, overflow="ellipsis")
        if changed and not self._timer:
            self._aside.update(self._summary)

    def note(self, text: str) -> None:
        """Says for a moment what was done."""
        if self._timer:
            self._timer.stop()
        self._aside.update(Text(text, no_wrap=True, overflow="ellipsis"))
        self._timer = self.set_timer(NOTE_S, self._forget)

    def _forget(self) -> None:
        self._timer = None
        self._aside.update(self._summary)
