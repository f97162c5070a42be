"""Tables of all actions: bindings, footer, help and command palette are made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Action:
    """An action bound to keys."""

    name: str
    """Name of the Textual action, run by the method `action_NAME`."""
    keys: str
    """Textual's key names, comma-separated."""
    label: str
    """Label in the footer, title in the palette."""
    help: str
    """One line for the help screen and the palette."""
    footer: bool = False
    """Whether the footer shows it."""
    priority: bool = False
    """Whether it precedes the bindings of the focused widget."""


CHAT_ACTIONS = (
    Action(
        "stop",
        "escape",
        "Stop",
        "Stop the answer and keep its text; cancel loading; clear the prompt",
        True,
    ),
    Action("interrupt", "ctrl+c", "Copy or stop", "Copy the selection, else stop the answer"),
    Action("regenerate", "ctrl+r", "Retry", "Answer the last question again", True),
    Action("new", "ctrl+n", "New", "Start a new conversation"),
    Action("app.edit", "ctrl+g", "Editor", "Write the message in $EDITOR"),
    Action("models", "ctrl+o", "Model", "Choose the model that answers"),
    Action("history", "ctrl+l", "History", "Saved conversations", True),
    Action("settings", "f2", "Settings", "Sampling, drafting, system prompt", True, priority=True),
    Action("colours", "f3", "Colours", "Colour tokens by their origin", True, priority=True),
    Action("rounds", "f4", "Rounds", "Step through drafted and accepted tokens", priority=True),
    Action("thinking", "ctrl+t", "Thought", "Fold or unfold the last thought"),
    Action("panel", "ctrl+s", "Statistics", "Show or hide the statistics"),
    Action("messages", "alt+up", "Messages", "Select messages: copy, edit, delete"),
    Action("app.theme", "f5", "Theme", "Switch between dark and light", priority=True),
    Action("command_palette", "ctrl+p", "Palette", "Find an action by name"),
    Action("help", "f1", "Help", "Keys and commands", True, priority=True),
    Action("app.quit", "ctrl+q", "Quit", "Leave the chat", True, priority=True),
)
"""Actions of the chat screen."""

ENTRY_ACTIONS = (
    Action("previous", "up,alt+up,k", "Previous", "Select the message above"),
    Action("next", "down,alt+down,j", "Next", "Select the message below"),
    Action("screen.copy_entry", "y,enter", "Copy", "Copy the message", True),
    Action("screen.edit_entry", "e", "Edit", "Edit the question and branch off there", True),
    Action("screen.delete_entry", "d", "Delete", "Delete the question and its answer", True),
    Action("screen.restore_entry", "u", "Restore", "Restore what was deleted last"),
    Action("screen.unfold_entry", "t", "Unfold", "Fold or unfold a thought or long message", True),
    Action("screen.colour_entry", "c", "Colours", "Colour the tokens by their origin", True),
    Action("leave", "escape,tab", "Back", "Return to the prompt", True),
)
"""Actions on the message under the cursor."""


def bindings(actions: Sequence[Action]) -> list[BindingType]:
    """Makes the Textual bindings of actions."""
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
