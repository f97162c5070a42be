"""A question that is answered with yes or no."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from localmtp.tui.rendering.formatting import show_controls


class ConfirmScreen(ModalScreen[bool]):
    """Asks before something that cannot be undone; dismissed with the answer.

    Args:
        question: one or a few lines.
        confirm: label of the confirming key.
    """

    AUTO_FOCUS = ""

    def __init__(self, question: str, confirm: str) -> None:
        super().__init__()
        self._question = question
        self._bindings.bind("y", "dismiss(True)", confirm, show=True)
        self._bindings.bind("n,escape", "dismiss(False)", "Cancel", show=True)

    def compose(self) -> ComposeResult:
        """Yields the question and the keys."""
        with Vertical(id="page"):
            yield Static(Text(show_controls(self._question), overflow="fold"), id="question")
            yield Footer(show_command_palette=False)
