"""The models to choose from: installed, and available for download."""

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
from localmtp.tui.rendering.formatting import show_controls, size
from localmtp.tui.rendering.list_row import ListRow

if TYPE_CHECKING:
    from localmtp.models.listing import ListedModel


_WIDTHS = (len("14.2 GB"), len("fits 131,072 tokens"), len("no drafter"))
"""Column widths after the name."""


class ModelsScreen(ModalScreen[str | None]):
    """Lists models; dismissed with the name of the chosen one, or None.

    Args:
        current: name of the model that answers now; empty while there is none.
        list_rows: lists the models; called in a thread.
    """

    BINDINGS = [  # noqa: RUF012 - Textual's own type
        Binding("escape", "dismiss", "Close"),
        Binding("enter", "choose", "Choose (downloads if missing)", priority=True),
        Binding("down", "list", "List", show=False),
    ]

    def __init__(self, current: str, list_rows: Callable[[], list[ListedModel]]) -> None:
        super().__init__()
        self._list_rows = list_rows
        self._current = current
        self._rows: list[ListedModel] = []

    def compose(self) -> ComposeResult:
        """Yields the filter and the list."""
        with Vertical(id="page"):
            yield Input(placeholder="Filter, or enter USER/REPO or a path", id="words")
            yield OptionList(id="found")
            yield Footer(show_command_palette=False)

    @work
    async def on_mount(self) -> None:
        """Lists the models in a thread, since reading their headers takes a moment."""
        found = self.query_one(OptionList)
        found.add_option(Option("searching …", disabled=True))
        try:
            self._rows = await asyncio.to_thread(self._list_rows)
        except LocalmtpError as error:
            found.add_option(Option(Text(show_controls(error.message)), disabled=True))
            return
        self._show_matching()

    def action_choose(self) -> None:
        """Chooses the model under the cursor; if none matches, the text of the filter."""
        found, words = self.query_one(OptionList), self.query_one("#words", Input).value.strip()
        if found.highlighted is not None:
            self.dismiss(found.get_option_at_index(found.highlighted).id)
        elif words:
            # A repository or a file; loading reports if there is none.
            self.dismiss(words)

    def action_list(self) -> None:
        """Moves the focus to the list."""
        self.query_one(OptionList).focus()

    def _show_matching(self) -> None:
        words = self.query_one("#words", Input).value.lower().split()
        found = self.query_one(OptionList)
        found.clear_options()
        for title, installed in (("installed", True), ("available for download", False)):
            rows = [r for r in self._rows if r.installed is installed]
            rows = [r for r in rows if all(word in r.model.lower() for word in words)]
            if rows:
                if found.option_count:
                    found.add_option(None)
                muted = self.app.theme_variables["muted"]
                found.add_option(Option(Text(title, muted), disabled=True))
                found.add_options([Option(self._option(row), id=row.model) for row in rows])
        found.action_first()
        # Includes the heading above the first row.
        found.call_after_refresh(found.scroll_home, animate=False)

    def _option(self, row: ListedModel) -> ListRow:
        colours = self.app.theme_variables
        mark = ("● ", colours["draft"]) if row.model == self._current else "  "
        fits = f"fits {row.context:,} tokens" if row.context else "does not fit"
        drafter = "drafter" if row.drafter else "no drafter"
        columns = zip((size(row.bytes), fits, drafter), _WIDTHS, strict=True)
        return ListRow(
            Text.assemble(mark, show_controls(row.model)), tuple(columns), colours["muted"]
        )

    @on(Input.Changed)
    def _filter_changed(self) -> None:
        self._show_matching()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)


def available_rows() -> list[ListedModel]:
    """Lists installed models by size, then those available for download."""
    from localmtp.models.listing import installed_row, registry_rows
    from localmtp.models.memory.available import available_memory
    from localmtp.models.store.installed import embedded_model, installed_models

    memory = available_memory()
    here = sorted([embedded_model(), *installed_models()], key=lambda model: model.weights)
    return [installed_row(model, memory) for model in here] + registry_rows(memory)
