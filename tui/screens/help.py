"""Keys and commands, from the tables that define them."""

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
from localmtp.tui.commands.slash import COMMANDS

_PROMPT_KEYS = (
    ("enter", "Send; queue while an answer is written"),
    ("shift+enter, ctrl+j", "Start a new line"),
    ("up, down", "Recall sent messages; take back queued ones"),
    ("tab", "Complete a command, or a file after @ to attach it"),
    ("ctrl+v", "Attach the image in the clipboard; dropped files are attached too"),
    ("backspace", "Remove the last attachment, if the prompt is empty"),
    ("ctrl+d", "Leave the chat, if the prompt is empty"),
)

KEY_WIDTH = 20
"""Cells of the key column in every section."""

SECTION_INTERVAL_S = 0.02
"""Between two sections, for other events."""


class HelpScreen(ModalScreen[None]):
    """Shows one scrolling page over the chat."""

    BINDINGS = [Binding("escape,f1,q,enter", "dismiss", "Close")]  # noqa: RUF012 - Textual's own

    def compose(self) -> ComposeResult:
        """Yields the page."""
        yield VerticalScroll(id="page")

    def on_mount(self) -> None:
        """Fills the page section by section: all together would delay other events."""
        self._fill(
            [
                ("In the prompt", list(_PROMPT_KEYS)),
                ("In the chat", [(action.keys, action.help) for action in CHAT_ACTIONS]),
                ("On a message", [(action.keys, action.help) for action in ENTRY_ACTIONS]),
                ("Commands", [(f"/{c.name} {c.argument}", c.help) for c in COMMANDS]),
            ]
        )

    def _fill(self, sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
        (title, rows), *others = sections
        self.query_one("#page").mount(Static(self._section(title, rows)))
        if others:
            self.set_timer(SECTION_INTERVAL_S, partial(self._fill, others))

    def _section(self, title: str, rows: list[tuple[str, str]]) -> Table:
        colours = self.app.theme_variables
        table = Table.grid(padding=(0, 3, 0, 0), expand=True)
        table.add_column(no_wrap=True, style=colours["primary"], width=KEY_WIDTH)
        table.add_column(style=colours["foreground"], ratio=1)
        table.add_row(Text(title, f"bold {colours['foreground']}"))
        for keys, text in rows:
            # Text, not markup: brackets mark optional arguments.
            table.add_row(Text(keys.replace(", ", ",").replace(",", ", ")), Text(text))
        table.add_row()
        return table
