"""A question before a tool runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from localmtp.tui.rendering.formatting import show_controls
from localmtp.tui.tool_use import Approval

_LONGEST = 4000
"""Characters of arguments that are shown."""


class ApproveScreen(ModalScreen[Approval]):
    """Asks whether a tool may run with these arguments.

    Args:
        server: of the tool.
        tool: its name.
        arguments: from the model.
    """

    AUTO_FOCUS = ""
    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("y", "answer('once')", "Once"),
        Binding("c", "answer('conversation')", "This conversation"),
        Binding("a", "answer('always')", "Always"),
        Binding("n,escape", "answer('no')", "No"),
    ]

    def __init__(self, server: str, tool: str, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        given = json.dumps(arguments, ensure_ascii=False, indent=2)
        if len(given) > _LONGEST:
            given = f"{given[:_LONGEST]}\n… {len(given) - _LONGEST:,} characters more"
        self._question = f"Run {tool} of {server}?\n\n{given}"

    def compose(self) -> ComposeResult:
        """Yields the question and the keys."""
        with VerticalScroll(id="page"):
            yield Static(Text(show_controls(self._question), overflow="fold"), id="question")
            yield Footer(show_command_palette=False)

    def action_answer(self, approval: str) -> None:
        """Dismisses the screen with an answer."""
        self.dismiss(Approval(approval))
