"""Actions on the entries of the transcript."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from textual.screen import Screen

from localmtp.media import Kind
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.entries import TranscriptEntry, UserEntry
from localmtp.tui.rendering.formatting import count
from localmtp.tui.widgets.conversation import Conversation
from localmtp.tui.widgets.status_line import StatusLine


class TranscriptActions(Screen[None]):
    """Copies, edits, deletes, folds and colours entries; the base of the chat screen."""

    @property
    def conversation(self) -> Conversation:
        """Returns the conversation widget."""
        return self.query_one(Conversation)

    @abstractmethod
    def open_rounds(self, answer: AnswerEntry) -> None:
        """Shows the rounds of an answer."""

    def note(self, text: str) -> None:
        """Shows a notice for a few seconds; does nothing for an empty one."""
        if text:
            self.query_one(StatusLine).notify_briefly(text)

    def attach(self, path: Path, kind: Kind) -> None:
        """Attaches an image or sound to the next message."""
        self.conversation.tray.attach(path, kind)

    def attach_from_clipboard(self) -> None:
        """Attaches the image in the clipboard."""
        self.conversation.tray.paste_image()

    def detach(self, number: int) -> str:
        """Removes an attachment, 0 for the first, -1 for the last; returns its name, if any."""
        return self.conversation.tray.detach(number)

    def copy(self, text: str) -> str:
        """Copies text to the clipboard; returns a notice."""
        self.app.copy_to_clipboard(text)
        return f"copied {count(len(text.splitlines()), 'line')}"

    def last_answer(self) -> AnswerEntry | None:
        """Returns the last answer, finished or growing."""
        return self.conversation.last_answer()

    def edit_last_question(self) -> bool:
        """Moves the last question to the prompt; returns False if that is not possible now."""
        question = self.conversation.last_question()
        return question is not None and self.conversation.edit(question)

    def delete_last_exchange(self) -> bool:
        """Deletes the last question and answer; returns False if that is not possible now."""
        answer = self.conversation.last_answer()
        return answer is not None and self.conversation.delete(answer)

    def restore_deleted(self) -> bool:
        """Restores the exchange deleted last; returns False if that is not possible now."""
        return self.conversation.restore_deleted()

    def action_colours(self) -> None:
        """Colours the tokens of the last answer."""
        self._colour(self.conversation.last_answer())

    def action_thinking(self) -> None:
        """Folds or unfolds the last thought."""
        self._unfold(self.conversation.last_answer())

    def action_rounds(self) -> None:
        """Shows the rounds of the last answer."""
        answer = self.conversation.last_answer()
        if answer and answer.rounds:
            self.open_rounds(answer)
        else:
            self.note(_no_rounds(answer))

    def action_messages(self) -> None:
        """Moves the cursor to the last entry."""
        self.conversation.transcript.focus()

    def action_copy_entry(self) -> None:
        """Copies the entry under the cursor."""
        if entry := self.conversation.transcript.current:
            self.note(self.copy(entry.text))

    def action_edit_entry(self) -> None:
        """Moves the question at or before the cursor to the prompt."""
        transcript = self.conversation.transcript
        if transcript.cursor is None:
            return
        asked = [e for e in transcript.entries[: transcript.cursor + 1] if isinstance(e, UserEntry)]
        if asked and self.conversation.edit(asked[-1]):
            self.note("Enter branches off here, Esc cancels")

    def action_delete_entry(self) -> None:
        """Deletes the exchange under the cursor."""
        transcript = self.conversation.transcript
        entry, at = transcript.current, transcript.cursor
        if entry is None or at is None:
            return
        if not self.conversation.delete(entry):
            self.note("stop the answer first")
            return
        self.note("deleted; u restores it")
        if transcript.entries:
            transcript.cursor = min(at, len(transcript.entries) - 1)

    def action_restore_entry(self) -> None:
        """Restores the exchange deleted last."""
        restored = self.conversation.restore_deleted()
        self.note("restored" if restored else "nothing to restore")
        transcript = self.conversation.transcript
        if restored and transcript.has_focus:
            transcript.cursor = len(transcript.entries) - 1

    def action_unfold_entry(self) -> None:
        """Folds or unfolds the thought or the long message under the cursor."""
        self._unfold(self.conversation.transcript.current)

    def action_colour_entry(self) -> None:
        """Colours the tokens under the cursor."""
        self._colour(self.conversation.transcript.current)

    def _unfold(self, entry: TranscriptEntry | None) -> None:
        folds = isinstance(entry, UserEntry) or (isinstance(entry, AnswerEntry) and entry.thought)
        if isinstance(entry, UserEntry | AnswerEntry) and folds:
            entry.unfolded = not entry.unfolded
            entry.touch()
            self.conversation.transcript.changed()
        else:
            self.note("nothing to unfold")

    def _colour(self, entry: TranscriptEntry | None) -> None:
        if not isinstance(entry, AnswerEntry) or not entry.rounds:
            self.note(_no_rounds(entry))
            return
        entry.coloured = not entry.coloured
        entry.touch()
        self.conversation.transcript.changed()


def _no_rounds(entry: TranscriptEntry | None) -> str:
    if isinstance(entry, AnswerEntry):
        return "rounds are not saved; ask again to see them"
    return "no answer yet"
