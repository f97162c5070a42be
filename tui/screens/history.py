"""Saved conversations: search, open, rename, delete, export."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList
from textual.widgets.option_list import Option

from localmtp.errors import LocalmtpError
from localmtp.tui.commands import export
from localmtp.tui.export_files import listing, overwritten, written
from localmtp.tui.rendering.formatting import count, show_controls
from localmtp.tui.rendering.list_row import ListRow
from localmtp.tui.screens.confirm import ConfirmScreen

if TYPE_CHECKING:
    from localmtp.history import History, SavedConversation

P = ParamSpec("P")
T = TypeVar("T")

NOTICE_S = 4.0

ROWS_PER_STEP = 25
"""Rows added at once: more than are visible."""


class HistoryScreen(ModalScreen[int | None]):
    """Lists conversations; dismissed with the id of the chosen one, or None.

    Args:
        history: the saved conversations.
        words: initial search words.
        current: id of the open conversation, which cannot be deleted; None for none.
    """

    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("escape", "close", "Close"),
        Binding("down", "list", "List", show=False),
        Binding("f2", "rename", "Rename"),
        Binding("f8", "delete", "Delete"),
        Binding("f9", "export", "Export"),
    ]

    def __init__(self, history: History, words: str = "", current: int | None = None) -> None:
        super().__init__()
        self._history = history
        self._words = words
        self._open_id = current
        self._found: list[SavedConversation] = []
        self._renaming: SavedConversation | None = None

    def compose(self) -> ComposeResult:
        """Yields the search words and the list."""
        with Vertical(id="page"):
            yield Input(self._words, placeholder="Search conversations", id="words")
            yield OptionList(id="found")
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Lists the conversations that match the initial words."""
        self._find()

    def action_close(self) -> None:
        """Cancels renaming, or closes the list."""
        if self._renaming:
            self._end_renaming()
        else:
            self.dismiss(None)

    def action_list(self) -> None:
        """Moves the focus to the list."""
        self.query_one(OptionList).focus()

    def action_rename(self) -> None:
        """Edits the title in the search line until Enter."""
        self._renaming = self._chosen
        if self._renaming:
            words = self.query_one("#words", Input)
            words.value = self._renaming.title
            words.cursor_position = len(words.value)
            words.focus()

    @work(exclusive=True)
    async def action_delete(self) -> None:
        """Deletes the conversation under the cursor, after a confirmation."""
        chosen = self._chosen
        if chosen is None:
            return
        if chosen.id == self._open_id:
            self._notify("this conversation is open; start another one first")
            return
        question = f"Delete “{chosen.title}” ({count(chosen.messages, 'message')})?"
        if await self.app.push_screen_wait(ConfirmScreen(question, "Delete")):
            await self._in_thread(self._history.delete, chosen.id)
            self._find()

    @work(exclusive=True)
    async def action_export(self) -> None:
        """Writes the conversation under the cursor as Markdown to the working directory."""
        chosen = self._chosen
        if chosen is None:
            return
        path = Path(f"conversation-{chosen.id}.md").absolute()
        messages = await self._in_thread(self._history.load, chosen.id)
        if messages is None:
            return
        files = export.conversation_files(path, chosen.title, messages)
        existing = await asyncio.to_thread(overwritten, files)
        confirm = ConfirmScreen(f"Overwrite {listing(existing)}?", "Overwrite")
        if existing and not await self.app.push_screen_wait(confirm):
            return
        if await self._in_thread(written, files):
            self._notify(f"written: {listing(list(files))}")

    @property
    def _chosen(self) -> SavedConversation | None:
        index = self.query_one(OptionList).highlighted
        return None if index is None else self._found[index]

    @work(exclusive=True)
    async def _find(self) -> None:
        words = "" if self._renaming else self.query_one("#words", Input).value
        self._found = await self._in_thread(self._history.find, words) or []
        found = self.query_one(OptionList)
        found.clear_options()
        for first in range(0, len(self._found), ROWS_PER_STEP):
            rows = self._found[first : first + ROWS_PER_STEP]
            found.add_options([Option(self._row(saved)) for saved in rows])
            if not first:
                found.highlighted = 0
            # Laying out many rows at once would delay keys.
            await asyncio.sleep(0)
        if not self._found:
            nothing = "no conversation matches" if words.strip() else "no saved conversations"
            found.add_option(Option(nothing, disabled=True))

    def _row(self, saved: SavedConversation) -> ListRow:
        when = time.strftime("%d %b %H:%M", time.localtime(saved.updated))
        columns = ((when, 12), (count(saved.messages, "message"), 12))
        colours = self.app.theme_variables
        mark = ("● ", colours["draft"]) if saved.id == self._open_id else "  "
        return ListRow(Text.assemble(mark, show_controls(saved.title)), columns, colours["muted"])

    async def _in_thread(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Calls a blocking function in a thread; reports its error and returns None."""
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except LocalmtpError as error:
            self._notify(error.message)
            return None

    def _notify(self, text: str) -> None:
        self.notify(show_controls(text), timeout=NOTICE_S, markup=False)

    def _end_renaming(self) -> None:
        self._renaming = None
        self.query_one("#words", Input).value = ""
        self._find()

    @on(Input.Changed)
    def _words_changed(self) -> None:
        if not self._renaming:
            self._find()

    @on(Input.Submitted)
    async def _words_submitted(self, event: Input.Submitted) -> None:
        if self._renaming:
            await self._in_thread(self._history.rename, self._renaming.id, event.value)
            self._end_renaming()
        elif chosen := self._chosen:
            self.dismiss(chosen.id)

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        if chosen := self._chosen:
            self.dismiss(chosen.id)
