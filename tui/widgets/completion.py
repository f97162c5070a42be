"""Completion of slash commands and of files after `@`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.text import Text
from textual import work
from textual.widgets import Static

from localmtp.tui.commands.attachments import (
    MEDIA_COMMANDS,
    FileMatch,
    argument_before,
    complete_reference,
    files_below,
    files_in_folder_of,
    is_path,
    matching_files,
    reference_before,
)
from localmtp.tui.commands.slash import Command, matching
from localmtp.tui.messages import MediaCompleted
from localmtp.tui.rendering.formatting import show_controls

MAX_ROWS = 8

_NAME_WIDTH = 22


class Completion(Static):
    """Lists matching commands or files above the prompt; Tab completes the first."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.attached: dict[str, FileMatch] = {}
        """Files completed so far, by their references: only these are read."""
        self._commands: list[Command] = []
        self._files: list[FileMatch] = []
        self._listed: tuple[str, list[FileMatch]] | None = None
        self._beginning: str | None = None
        self._command = ""
        """Command whose argument is completed; empty for a reference."""
        self.display = False

    def update_matches(self, text: str) -> None:
        """Shows the commands or files that `text`, up to the cursor, may be completed to."""
        self._commands, self._files = matching(text), []
        self._command, beginning = argument_before(text) or ("", reference_before(text))
        self._beginning = beginning
        if beginning is None:
            self._listed = None
        else:
            folder = beginning.rpartition("/")[0] if is_path(beginning) else "."
            if self._listed is None or self._listed[0] != folder:
                self._listed = (folder, [])
                self._list_files(folder, beginning)
            self._match_files(beginning)
        self._show()

    def complete(self, text: str) -> str | None:
        """Returns `text` completed to the first match; None without a match.

        An image or sound is to be attached: `MediaCompleted` is posted.
        """
        if self._commands:
            return f"/{self._commands[0].name} "
        if self._files:
            match = self._files[0]
            if self._command:
                return f"/{self._command} {match.path}"
            if match.is_media:
                self.post_message(MediaCompleted(Path(match.path).expanduser()))
            else:
                self.attached[match.reference] = match
            return complete_reference(text, match)
        return None

    @work(exclusive=True)
    async def _list_files(self, folder: str, beginning: str) -> None:
        if folder == ".":
            files = await asyncio.to_thread(files_below, Path())
        else:
            files = await asyncio.to_thread(files_in_folder_of, beginning)
        if self._listed and self._listed[0] == folder and self._beginning is not None:
            self._listed = (folder, files)
            self._match_files(self._beginning)
            self._show()

    def _match_files(self, beginning: str) -> None:
        """Chooses from the listed files, for `/image` and its like from the images and sounds."""
        files = self._listed[1] if self._listed else []
        if self._command:
            files = [one for one in files if one.is_media == (self._command in MEDIA_COMMANDS)]
        self._files = matching_files(files, beginning)

    def _show(self) -> None:
        rows = [
            *((f"/{c.name} {c.argument}", c.help) for c in self._commands[:MAX_ROWS]),
            *(
                (one.path if self._command else one.reference, one.description)
                for one in self._files[:MAX_ROWS]
            ),
        ]
        self.display = bool(rows)
        colours = self.app.theme_variables
        width = max([_NAME_WIDTH, *(len(name) + 2 for name, _ in rows)])
        lines = []
        for number, (name, help_text) in enumerate(rows):
            style = colours["primary"] if number == 0 else colours["foreground"]
            padded = show_controls(name).ljust(width)
            lines.append(Text.assemble((padded, style), (help_text, colours["muted"])))
        if more := len(self._commands) + len(self._files) - len(rows):
            lines.append(Text(f"{more:,} more", colours["muted"]))
        self.update(Text("\n", no_wrap=True, overflow="ellipsis").join(lines))
