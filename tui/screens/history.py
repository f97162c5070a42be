"""Saved conversations: search, open, rename, delete, export."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList
from textual.widgets.option_list import Option

from localmtp.atomic import atomic_write_text
from localmtp.tui.commands import export
from localmtp.tui.rendering.formatting import count, show_controls
from localmtp.tui.rendering.list_row import ListRow

if TYPE_CHECKING:
    from localmtp.history import History, Saved

ROWS_PER_STEP = 25
"""Rows added at once: more than are visible."""


class HistoryScreen(ModalScreen[int | None]):
    """Lists conversations; dismissed with the id of the chosen one, or None.

    Args:
        history: the saved conversations.
        words: initial search words.
    """

    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("escape", "dismiss", "Close"),
        Binding("down", "list", "List", show=False),
        Binding("f2", "rename", "Rename"),
        Binding("f8", "delete", "Delete"),
        Binding("f9", "export", "Export"),
    ]

    def __init__(self, history: History, words: str) -> None:
        super().__init__()
        self._history = history
        self._words = words
        self._found: list[Saved] = []
        self._renaming: Saved | None = None

    def compose(self) -> ComposeResult:
        """Yields the search words and the list."""
        with Vertical(id="page"):
            yield Input(self._words, placeholder="Search conversations", id="words")
            yield OptionList(id="found")
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Lists the conversations that match the initial words."""
        self._find()

    def action_list(self) -> None:
        """Moves the focus to the list."""
        self.query_one(OptionList).focus()

    def action_rename(self) -> None:
        """Edits the title in the search line until Enter."""
        self._renaming = self._chosen
        if self._renaming:
            words = self.query_one("#words", Input)
            words.value = self._renaming.title
            words.focus()

    @work(exclusive=True)
    async def action_delete(self) -> None:
        """Deletes the conversation under the cursor."""
        if chosen := self._chosen:
            await asyncio.to_thread(self._history.delete, chosen.id)
            self._find()

    @work(exclusive=True)
    async def action_export(self) -> None:
        """Writes the conversation under the cursor as Markdown to the working directory."""
        if chosen := self._chosen:
            messages = await asyncio.to_thread(self._history.load, chosen.id)
            path = Path(f"conversation-{chosen.id}.md")
            await asyncio.to_thread(
                atomic_write_text, path, export.markdown(chosen.title, messages)
            )
            self.notify(f"written: {path.absolute()}", timeout=3)

    @property
    def _chosen(self) -> Saved | None:
        index = self.query_one(OptionList).highlighted
        return None if index is None else self._found[index]

    @work(exclusive=True)
    async def _find(self) -> None:
        words = "" if self._renaming else self.query_one("#words", Input).value
        self._found = await asyncio.to_thread(self._history.find, words)
        found = self.query_one(OptionList)
        found.clear_options()
        for first in range(0, len(self._found), ROWS_PER_STEP):
            rows = self._found[first : first + ROWS_PER_STEP]
            found.add_options([Option(self._row(saved)) for saved in rows])
            if not first:
                found.highlighted = 0
            # Laying out many rows at once would delay keys.
            await asyncio.sleep(0)

    def _row(self, saved: Saved) -> ListRow:
        when = time.strftime("%d %b %H:%M", time.localtime(saved.updated))
        columns = ((when, 12), (count(saved.messages, "message"), 12))
        return ListRow(Text(show_controls(saved.title)), columns, self.app.theme_variables["muted"])

    @on(Input.Changed)
    def _words_changed(self) -> None:
        if not self._renaming:
            self._find()

    @on(Input.Submitted)
    async def _words_submitted(self, event: Input.Submitted) -> None:
        if self._renaming:
            renamed, self._renaming = self._renaming, None
            await asyncio.to_thread(self._history.rename, renamed.id, event.value)
            event.input.value = ""
            self._find()
        elif chosen := self._chosen:
            self.dismiss(chosen.id)

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        if chosen := self._chosen:
            self.dismiss(chosen.id)
