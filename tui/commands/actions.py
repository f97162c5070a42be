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
    Action(
        "stop",
        "escape",
        "Stop",
        "Stop the answer and keep it; stop loading; clear the prompt",
        True,
    ),
    Action("interrupt", "ctrl+c", "Copy or stop", "Copy the selection, else stop the answer"),
    Action("regenerate", "ctrl+r", "Again", "Answer the last question once more", True),
    Action("new", "ctrl+n", "New", "Begin a new conversation"),
    Action("app.edit", "ctrl+g", "Editor", "Write the message in $EDITOR"),
    Action("models", "ctrl+o", "Model", "Choose the model that answers"),
    Action("sessions", "ctrl+l", "Sessions", "Saved conversations", True),
    Action("settings", "f2", "Settings", "Sampling, drafting, system prompt", True, priority=True),
    Action("colours", "f3", "Colours", "Colour tokens by how they came", True, priority=True),
    Action("rounds", "f4", "Rounds", "Step through what was proposed and kept", priority=True),
    Action("thinking", "ctrl+t", "Thought", "Fold or unfold the last thought"),
    Action("panel", "ctrl+s", "Statistics", "Show or hide the statistics"),
    Action("messages", "alt+up", "Messages", "Go to the messages: copy, edit, delete"),
    Action("app.theme", "f5", "Theme", "Dark or light", priority=True),
    Action("command_palette", "ctrl+p", "Palette", "Find an action by its name"),
    Action("help", "f1", "Help", "Keys and commands", True, priority=True),
    Action("app.quit", "ctrl+q", "Quit", "Leave the chat", True, priority=True),
)
"""Of the chat screen."""

ENTRY_ACTIONS = (
    Action("previous", "up,alt+up,k", "Previous", "The message above"),
    Action("next", "down,alt+down,j", "Next", "The message below"),
    Action("screen.copy_entry", "y,enter", "Copy", "Copy the message", True),
    Action("screen.edit_entry", "e", "Edit", "Change the question and branch off there", True),
    Action("screen.delete_entry", "d", "Delete", "Delete the question and its answer", True),
    Action("screen.unfold_entry", "t", "Thought", "Fold or unfold the thought", True),
    Action("screen.colour_entry", "c", "Colours", "Colour the tokens by how they came", True),
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
