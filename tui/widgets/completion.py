"""Completion of slash commands."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from localmtp.tui.commands.slash import Command, matching

MAX_ROWS = 8

_NAME_WIDTH = 22


class Completion(Static):
    """Lists the matching commands above the prompt; Tab completes the first."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.commands: list[Command] = []
        self.display = False

    def update_matches(self, text: str) -> None:
        """Shows the commands that `text` may be completed to."""
        self.commands = matching(text)
        self.display = bool(self.commands)
        self.update(self._listing())

    def _listing(self) -> Text:
        colours = self.app.theme_variables
        shown = self.commands[:MAX_ROWS]
        lines = []
        for number, command in enumerate(shown):
            name = f"/{command.name} {command.argument}".ljust(_NAME_WIDTH)
            style = colours["primary"] if number == 0 else colours["foreground"]
            lines.append(Text.assemble((name, style), (command.help, colours["muted"])))
        if more := len(self.commands) - len(shown):
            lines.append(Text(f"{more} more", colours["muted"]))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
