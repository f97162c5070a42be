"""Everything the parts of the chat say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from localmtp.errors import LocalmtpError
from localmtp.tui.opening import Opening


@dataclass
class Submitted(Message):
    """The user sent what stands in the prompt."""

    text: str


@dataclass
class TypedElsewhere(Message):
    """A character was typed while the focus was not in the prompt."""

    character: str


@dataclass
class TakeBack(Message):
    """Up was pressed in an empty prompt: the last waiting message is taken back."""


@dataclass
class CompletionWanted(Message):
    """Tab was pressed in a command."""


@dataclass
class NotSaved(Message):
    """The conversation could not be written to the disk; the chat goes on."""

    reason: LocalmtpError


@dataclass
class AnswerBegan(Message):
    """The session works."""


@dataclass
class AnswerEnded(Message):
    """The session is free, after an answer or an error."""


@dataclass
class Opened(Message):
    """A model is loaded, or could not be."""

    opening: Opening


@dataclass
class ModelChanged(Message):
    """Another session answers from now on."""
