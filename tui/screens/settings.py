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
from localmtp.tui.commands.settings import KEYS, changed, check_for, formatted, template_in_use

if TYPE_CHECKING:
    from localmtp.session import Session, Settings  # noqa: F401 - in the type of the result

_WIDE = ("template",)
"""Settings with long values; what they mean is on a line of its own."""


class SettingsScreen(ModalScreen["Settings | None"]):
    """Edits settings; dismissed with the new ones, or None if cancelled.

    Args:
        session: whose settings are shown.
    """

    AUTO_FOCUS = "Input"
    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("escape", "dismiss", "Cancel"),
        Binding("enter", "accept", "Apply", priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._settings = session.settings

    def compose(self) -> ComposeResult:
        """Yields a row for each setting, and a line for errors."""
        with VerticalScroll(id="page"):
            for key, text in KEYS.items():
                with Horizontal(classes="row"):
                    yield Label(key)
                    yield Input(formatted(self._settings, key), id=key, placeholder=text)
                    if key not in _WIDE:
                        yield Label(text, classes="meaning")
            yield Static(template_in_use(self._session), id="template-in-use")
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
            check_for(self._session, settings)
        except LocalmtpError as error:
            line = self.query_one("#error", Static)
            line.update(error.message)
            line.scroll_visible()
            return
        system = self.query_one("#system", Input).value
        self.dismiss(replace(settings, system=system))

    @on(Input.Changed)
    def _typed(self) -> None:
        self.query_one("#error", Static).update("")
