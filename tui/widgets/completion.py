"""What a half-written command may become."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from localmtp.tui.commands.table import Command, matching

MOST_SHOWN = 8


class Completion(Static):
    """A list above the prompt while a command's name is being written; Tab takes the first."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.commands: list[Command] = []
        self.display = False

    def follow(self, text: str) -> None:
        """Shows what `text` may become."""
        self.commands = matching(text)
        self.display = bool(self.commands)
        self.update(self._listing())

    def _listing(self) -> Text:
        colours = self.app.theme_variables
        shown = self.commands[:MOST_SHOWN]
        lines = []
        for number, command in enumerate(shown):
            name = f"/{command.name} {command.argument}".ljust(22)
            style = colours["primary"] if number == 0 else colours["foreground"]
            lines.append(Text.assemble((name, style), (command.help, colours["muted"])))
        if more := len(self.commands) - len(shown):
            lines.append(Text(f"{more} more", colours["muted"]))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
