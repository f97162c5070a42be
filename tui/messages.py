"""Messages between the widgets of the chat."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from localmtp.errors import LocalmtpError
from localmtp.tui.model_loading import ModelLoad


@dataclass
class Submitted(Message):
    """The user sent the prompt."""

    text: str


@dataclass
class CharacterTyped(Message):
    """A character was typed while the prompt was not focused."""

    character: str


@dataclass
class RecallQueued(Message):
    """Up was pressed in an empty prompt: returns the last queued message to it."""


@dataclass
class CompletePrompt(Message):
    """Tab was pressed in a slash command or a reference to a file."""


@dataclass
class SaveFailed(Message):
    """The conversation could not be written to disk; saving is retried after later answers."""

    error: LocalmtpError


@dataclass
class SavedAsCopy(Message):
    """Another program changed the conversation; this one continues in a copy."""


@dataclass
class GenerationStarted(Message):
    """The session started to generate."""


@dataclass
class GenerationEnded(Message):
    """The session is idle, after an answer or an error."""


@dataclass
class ModelLoadFinished(Message):
    """A model was loaded, or loading it failed."""

    load: ModelLoad


@dataclass
class ModelChanged(Message):
    """Another session answers from now on."""
