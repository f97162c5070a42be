"""The models that can answer: those on this machine, and those to download."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList
from textual.widgets.option_list import Option

from localmtp.errors import LocalmtpError
from localmtp.tui.drawing.columns import Columns
from localmtp.tui.drawing.text import size, visible

if TYPE_CHECKING:
    from localmtp.models.listing import ListedModel


_WIDTHS = (len("14.2 GB"), len("fits 131,072 tokens"), len("no drafter"))
"""Of the columns after the name: they are to stand under each other."""


class ModelsScreen(ModalScreen[str | None]):
    """Ends with the name of the model that is to answer, or with None.

    Args:
        running: the name of the one that answers now; empty while there is none.
        rows: looks what there is; called in a thread.
    """

    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("escape", "dismiss", "Close"),
        Binding("enter", "choose", "Choose, download if need be", priority=True),
        Binding("down", "list", "List", show=False),
    ]

    def __init__(self, running: str, rows: Callable[[], list[ListedModel]]) -> None:
        super().__init__()
        self._look = rows
        self._answering = running
        self._rows: list[ListedModel] = []

    def compose(self) -> ComposeResult:
        """What to find, what there is."""
        with Vertical(id="page"):
            yield Input(placeholder="Find a model, or write USER/REPO or a path", id="words")
            yield OptionList(id="found")
            yield Footer(show_command_palette=False)

    @work
    async def on_mount(self) -> None:
        """Lists the models; reading their headers takes a moment."""
        found = self.query_one(OptionList)
        found.add_option(Option("looking …", disabled=True))
        try:
            self._rows = await asyncio.to_thread(self._look)
        except LocalmtpError as error:
            found.add_option(Option(Text(visible(error.message)), disabled=True))
            return
        self._list()

    def action_choose(self) -> None:
        """The model under the cursor; where none is found, what was written."""
        found, words = self.query_one(OptionList), self.query_one("#words", Input).value.strip()
        if found.highlighted is not None:
            self.dismiss(found.get_option_at_index(found.highlighted).id)
        elif words:
            # A repository or a file; whether there is one, opening it will tell.
            self.dismiss(words)

    def action_list(self) -> None:
        """From the words to the list."""
        self.query_one(OptionList).focus()

    def _list(self) -> None:
        words = self.query_one("#words", Input).value.lower().split()
        found = self.query_one(OptionList)
        found.clear_options()
        for title, installed in (("on this machine", True), ("to download", False)):
            rows = [r for r in self._rows if r.installed is installed]
            rows = [r for r in rows if all(word in r.model.lower() for word in words)]
            if rows:
                if found.option_count:
                    found.add_option(None)
                muted = self.app.theme_variables["muted"]
                found.add_option(Option(Text(title, muted), disabled=True))
                found.add_options([Option(self._drawn(row), id=row.model) for row in rows])
        found.action_first()
        # The heading above it too.
        found.call_after_refresh(found.scroll_home, animate=False)

    def _drawn(self, row: ListedModel) -> Columns:
        colours = self.app.theme_variables
        mark = ("● ", colours["draft"]) if row.model == self._answering else "  "
        fits = f"fits {row.context:,} tokens" if row.context else "does not fit"
        drafter = "drafter" if row.drafter else "no drafter"
        columns = zip((size(row.bytes), fits, drafter), _WIDTHS, strict=True)
        return Columns(Text.assemble(mark, visible(row.model)), tuple(columns), colours["muted"])

    @on(Input.Changed)
    def _words_changed(self) -> None:
        self._list()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)


def rows_here() -> list[ListedModel]:
    """The models on this machine, small ones first, and those to download."""
    from localmtp.models.listing import installed_row, registry_rows
    from localmtp.models.memory.available import available_memory
    from localmtp.models.store.installed import embedded_model, installed_models

    room = available_memory()
    here = sorted([embedded_model(), *installed_models()], key=lambda model: model.weights)
    return [installed_row(model, room) for model in here] + registry_rows(room)
