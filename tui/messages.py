"""Messages between the widgets of the chat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
class MediaCompleted(Message):
    """A reference was completed to an image or sound."""

    path: Path


@dataclass
class PathsPasted(Message):
    """Text was pasted that may be the paths of dropped files."""

    text: str


@dataclass
class ImagePasted(Message):
    """The image in the clipboard was requested, or an empty text was pasted."""


@dataclass
class PasteText(Message):
    """Pasted text is only text and belongs into the prompt."""

    text: str


@dataclass
class RemoveLastAttachment(Message):
    """Backspace was pressed in an empty prompt."""


@dataclass
class AttachmentFailed(Message):
    """A file could not be attached."""

    error: LocalmtpError


@dataclass
class AttachmentsRead(Message):
    """No file is being read any more."""


@dataclass
class ShowBriefly(Message):
    """One line for the user, for a few seconds."""

    text: str


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
