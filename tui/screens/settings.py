"""The settings of a conversation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, Static

from localmtp.errors import LocalmtpError
from localmtp.tui.commands.settings import KEYS, changed, formatted

if TYPE_CHECKING:
    from localmtp.session import Settings


class SettingsScreen(ModalScreen["Settings | None"]):
    """Edits settings; dismissed with the new ones, or None if cancelled.

    Args:
        settings: current ones.
    """

    AUTO_FOCUS = "Input"
    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("escape", "dismiss", "Cancel"),
        Binding("enter", "accept", "Apply", priority=True),
    ]

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def compose(self) -> ComposeResult:
        """Yields a row for each setting, and a line for errors."""
        with VerticalScroll(id="page"):
            for key, text in KEYS.items():
                with Horizontal(classes="row"):
                    yield Label(key)
                    yield Input(formatted(self._settings, key), id=key, placeholder=text)
                    yield Label(text, classes="meaning")
            with Horizontal(classes="row"):
                yield Label("system")
                yield Input(self._settings.system, id="system", placeholder="none")
            yield Static(id="error")
            yield Footer(show_command_palette=False)

    def action_accept(self) -> None:
        """Applies all settings, or shows the first error."""
        settings = self._settings
        try:
            for key in KEYS:
                settings = changed(settings, key, self.query_one(f"#{key}", Input).value.strip())
        except LocalmtpError as error:
            self.query_one("#error", Static).update(error.message)
            return
        system = self.query_one("#system", Input).value
        self.dismiss(replace(settings, system=system))

    @on(Input.Changed)
    def _typed(self) -> None:
        self.query_one("#error", Static).update("")
