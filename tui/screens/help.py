"""Keys and commands, from the tables that make them work."""

from __future__ import annotations

from functools import partial

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from localmtp.tui.commands.actions import CHAT_ACTIONS, ENTRY_ACTIONS
from localmtp.tui.commands.table import COMMANDS

_PROMPT_KEYS = (
    ("enter", "Send; while an answer is written, wait for one's turn"),
    ("shift+enter, ctrl+j", "Break the line"),
    ("up, down", "Walk through what was sent; take back what waits"),
    ("tab", "Complete a command"),
)

KEYS_WIDTH = 20
"""Cells, in every section alike."""

NEXT_S = 0.02
"""After one section."""


class HelpScreen(ModalScreen[None]):
    """A page over the chat; any of its keys closes it."""

    BINDINGS = [Binding("escape,f1,q,enter", "dismiss", "Close")]  # noqa: RUF012 - Textual's own

    def compose(self) -> ComposeResult:
        """One scrolling page."""
        yield VerticalScroll(id="page")

    def on_mount(self) -> None:
        """Fills the page section by section, so that the chat is not kept waiting."""
        self._fill(
            [
                ("In the prompt", list(_PROMPT_KEYS)),
                ("Anywhere", [(action.keys, action.help) for action in CHAT_ACTIONS]),
                ("On a message", [(action.keys, action.help) for action in ENTRY_ACTIONS]),
                ("Commands", [(f"/{c.name} {c.argument}", c.help) for c in COMMANDS]),
            ]
        )

    def _fill(self, sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
        (title, rows), *others = sections
        self.query_one("#page").mount(Static(self._section(title, rows)))
        if others:
            self.set_timer(NEXT_S, partial(self._fill, others))

    def _section(self, title: str, rows: list[tuple[str, str]]) -> Table:
        colours = self.app.theme_variables
        table = Table.grid(padding=(0, 3, 0, 0), expand=True)
        table.add_column(no_wrap=True, style=colours["primary"], width=KEYS_WIDTH)
        table.add_column(style=colours["foreground"], ratio=1)
        table.add_row(Text(title, f"bold {colours['foreground']}"))
        for keys, text in rows:
            # Not markup: the brackets of optional arguments are to be seen.
            table.add_row(Text(keys.replace(", ", ",").replace(",", ", ")), Text(text))
        table.add_row()
        return table
