"""Every action of the chat: keys, footer, help and palette are all made from these tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a key does."""

    name: str
    """Of the method: `action_NAME`."""
    keys: str
    """As Textual names them, separated by commas."""
    label: str
    """In the footer, and the title in the palette."""
    help: str
    """One line, for the help screen and the palette."""
    footer: bool = False
    """Whether the footer shows it."""
    priority: bool = False
    """Whether it goes before what the focused widget does with the key."""


CHAT_ACTIONS = (
    Action("stop", "escape", "Stop", "Stop the answer and keep it; else clear the prompt", True),
    Action("interrupt", "ctrl+c", "Interrupt", "Copy the selection, else stop, else quit"),
    Action("panel", "ctrl+s", "Statistics", "Show or hide the statistics", True),
    Action("messages", "alt+up", "Messages", "Go to the messages: copy, edit, delete ...", True),
    Action("theme", "f5", "Theme", "Dark or light", priority=True),
    Action("quit", "ctrl+q", "Quit", "Leave the chat", True, priority=True),
)
"""Of the chat screen."""

ENTRY_ACTIONS = (
    Action("previous", "up,alt+up,k", "Previous", "The message above"),
    Action("next", "down,alt+down,j", "Next", "The message below"),
    Action("leave", "escape,tab", "Back", "Back to the prompt", True),
)
"""Of the message under the cursor."""


def bindings(actions: Sequence[Action]) -> list[BindingType]:
    """As Textual wants them."""
    return [
        Binding(
            action.keys,
            action.name,
            action.label,
            show=action.footer,
            tooltip=action.help,
            priority=action.priority,
        )
        for action in actions
    ]
