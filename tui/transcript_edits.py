"""Edits that change the entries of the transcript and the messages of the session alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from localmtp.engine.events import FinishReason
from localmtp.tui.media.attachment import Attachment
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.entries import TranscriptEntry, UserEntry
from localmtp.tui.tool_use import described

if TYPE_CHECKING:
    from localmtp.session import Message


@dataclass(frozen=True, slots=True)
class DeletedExchange:
    """Deleted entries and messages with their positions."""

    entries: list[TranscriptEntry]
    entry_index: int
    messages: list[Message]
    message_index: int


def entries_of(messages: Iterable[Message]) -> list[TranscriptEntry]:
    """Makes the entries of saved messages."""
    return [_entry(message) for message in messages]


def message_index(entries: Sequence[TranscriptEntry], entry: TranscriptEntry) -> int:
    """Returns the index of an entry's message among those of the session."""
    before = entries[: entries.index(entry)]
    return sum(isinstance(other, UserEntry | AnswerEntry) for other in before)


def delete_exchange(
    entries: list[TranscriptEntry], messages: list[Message], entry: TranscriptEntry
) -> DeletedExchange:
    """Deletes an entry, and with a question its answer or with an answer its question.

    Args:
        entries: changed in place.
        messages: changed in place; unchanged when a notice is deleted.
        entry: one of `entries`.
    """
    first = last = entries.index(entry)
    at = message_index(entries, entry)
    removed: list[Message] = []
    if isinstance(entry, UserEntry | AnswerEntry):
        if isinstance(entry, AnswerEntry):
            first, at = first - 1, at - 1
        last = first + 1
        removed = messages[at : at + 2]
        del messages[at : at + 2]
    deleted = DeletedExchange(entries[first : last + 1], first, removed, at)
    del entries[first : last + 1]
    return deleted


def replaced_exchange(
    entries: Sequence[TranscriptEntry], messages: Sequence[Message], answer: AnswerEntry
) -> DeletedExchange:
    """Returns the last exchange, as if it had been deleted: a new answer replaces its own.

    Restored, it is in front of the new one, with a copy of the question.
    """
    at = entries.index(answer) - 1
    question = entries[at]
    assert isinstance(question, UserEntry)
    copy = UserEntry(question.text, question.attachments)
    asked, answered = messages[-2:]
    return DeletedExchange([copy, answer], at, [replace(asked), answered], len(messages) - 2)


def restore_exchange(
    entries: list[TranscriptEntry], messages: list[Message], deleted: DeletedExchange
) -> None:
    """Reverts `delete_exchange`; messages may have been appended since."""
    entries[deleted.entry_index : deleted.entry_index] = deleted.entries
    messages[deleted.message_index : deleted.message_index] = deleted.messages


def last_answer(entries: Sequence[TranscriptEntry]) -> AnswerEntry | None:
    """Returns the last answer, finished or growing."""
    return next((entry for entry in reversed(entries) if isinstance(entry, AnswerEntry)), None)


def last_question(entries: Sequence[TranscriptEntry]) -> UserEntry | None:
    """Returns the last message of the user that is not queued."""
    asked = (entry for entry in reversed(entries) if isinstance(entry, UserEntry))
    return next((entry for entry in asked if not entry.queued), None)


def _entry(message: Message) -> TranscriptEntry:
    if message.role == "user":
        return UserEntry(message.text, [Attachment(media) for media in message.media])
    texts = [*(step.text for step in message.steps), message.text]
    thoughts = [*(step.thought for step in message.steps), message.thought]
    entry = AnswerEntry("".join(texts), "".join(thoughts))
    for step in message.steps:
        for call, result in zip(step.calls, step.results, strict=True):
            entry.show_call(described(call), result)
    entry.end(message.finish or FinishReason.CANCELLED, message.stats)
    return entry
