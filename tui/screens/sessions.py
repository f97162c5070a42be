"""The saved conversations: find, open, rename, delete, export."""

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
from localmtp.tui.drawing.columns import Columns
from localmtp.tui.drawing.text import plural, visible

if TYPE_CHECKING:
    from localmtp.history import History, Saved

AT_A_TIME = 25
"""Rows, more than are in sight at once."""


class SessionsScreen(ModalScreen[int | None]):
    """Ends with the id of the conversation to open, or with None.

    Args:
        history: where they are.
        words: to find at first.
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
        """What to find, what was found."""
        with Vertical(id="page"):
            yield Input(self._words, placeholder="Find words in conversations", id="words")
            yield OptionList(id="found")
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Shows everything, or what was asked for."""
        self._find()

    def action_list(self) -> None:
        """From the words to the list."""
        self.query_one(OptionList).focus()

    def action_rename(self) -> None:
        """The words become the title until Enter."""
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
        """Writes the conversation under the cursor as Markdown, into the working folder."""
        if chosen := self._chosen:
            messages = await asyncio.to_thread(self._history.load, chosen.id)
            path = Path(f"conversation-{chosen.id}.md")
            await asyncio.to_thread(
                atomic_write_text, path, export.markdown(chosen.title, messages)
            )
            self.notify(f"written: {path}", timeout=3)

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
        for first in range(0, len(self._found), AT_A_TIME):
            rows = self._found[first : first + AT_A_TIME]
            found.add_options([Option(self._row(saved)) for saved in rows])
            if not first:
                found.highlighted = 0
            # Many rows take longer to lay out than a key may wait.
            await asyncio.sleep(0)

    def _row(self, saved: Saved) -> Columns:
        when = time.strftime("%d %b %H:%M", time.localtime(saved.updated))
        columns = ((when, 12), (plural(saved.messages, "message"), 12))
        return Columns(Text(visible(saved.title)), columns, self.app.theme_variables["muted"])

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
