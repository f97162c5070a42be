"""Transcript, status line and prompt, and the answers generated between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult

from localmtp.engine.events import Event, FinishReason
from localmtp.errors import LocalmtpError
from localmtp.session import HERE
from localmtp.tui.commands.settings import carried_over
from localmtp.tui.media.attachment import all_described
from localmtp.tui.messages import (
    GenerationEnded,
    ModelChanged,
    RecallQueued,
    SavedAsCopy,
)
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.entries import NoticeEntry, TranscriptEntry, UserEntry, WelcomeEntry
from localmtp.tui.screens.approve import ApproveScreen
from localmtp.tui.tool_use import Approval, ToolUse
from localmtp.tui.transcript_edits import (
    DeletedExchange,
    delete_exchange,
    entries_of,
    last_answer,
    last_question,
    message_index,
    replaced_exchange,
    restore_exchange,
)
from localmtp.tui.widgets.attachment_tray import PictureWidget
from localmtp.tui.widgets.composing import Composing
from localmtp.tui.widgets.status_line import StatusLine
from localmtp.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localmtp.mcp.host import HostedTool
    from localmtp.media import Media
    from localmtp.session import Message, Session, Settings


class Conversation(Composing):
    """Sends messages one after the other and shows the answers.

    Args:
        brush: for the colours.
        drawn: called after more of an answer was drawn.
        picture_widget: draws previews of attached images; None for half blocks.
        id: of the widget.
    """

    def __init__(
        self,
        brush: Brush,
        drawn: Callable[[], None],
        picture_widget: PictureWidget | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(brush, drawn, picture_widget, id=id)
        self.session: Session | None = None
        self.tool_use: ToolUse | None = None
        """Runs the tools that answers call; None without any."""
        self.editing: UserEntry | None = None
        """The earlier message being edited in the prompt."""
        self._next_session: Session | None = None
        self._default_settings: Settings | None = None
        self._lent = False
        self._queue: list[UserEntry] = []
        self._deleted: list[DeletedExchange] = []
        self._asked_at: int | None = None

    def compose(self) -> ComposeResult:
        """Yields transcript, status line, completion and prompt."""
        yield Transcript(self._brush, id="transcript")
        yield StatusLine(id="activity")
        yield from self.compose_prompt()

    @property
    def transcript(self) -> Transcript:
        """Returns the transcript widget."""
        return self.query_one(Transcript)

    @property
    def queued(self) -> int:
        """Returns the number of queued messages."""
        return len(self._queue)

    def set_session(self, session: Session) -> None:
        """Sets the session that answers from the next message on."""
        self._next_session = session
        self._answer_next()

    def lend_session(self) -> Session | None:
        """Returns the session for use elsewhere until `return_session`; None while it is busy."""
        session = self.idle_session
        self._lent = session is not None
        if session:
            session.tools = ()
        return session

    def return_session(self) -> None:
        """Takes the session back and answers the queued messages."""
        self._lent = False
        self._answer_next()

    def send(self, text: str) -> None:
        """Sends a message with its attachments, or queues it while the session is busy."""
        entries = self.transcript.entries
        if entries and isinstance(entries[0], WelcomeEntry):
            self.transcript.remove_entry(entries[0])
        entry = UserEntry(text, self.tray.take(), queued=True)
        self._queue.append(entry)
        self.transcript.add(entry)
        self._answer_next()

    def regenerate(self) -> bool:
        """Answers the last question again; returns False if that is not possible now.

        The earlier answer can be restored.
        """
        session, last = self.idle_session, self.last_answer()
        if not session or not last:
            return False
        entries = self.transcript.entries
        if isinstance(entries[entries.index(last) - 1], UserEntry):
            self._deleted.append(replaced_exchange(entries, session.messages, last))
        session.messages.pop()
        self.transcript.remove_entry(last)
        self._start(session, session.answer, AnswerEntry())
        return True

    def resume(self) -> bool:
        """Resumes the last answer if it was cut; returns False otherwise."""
        session, last = self.idle_session, self.last_answer()
        if not session or not last or last.finish is FinishReason.STOP:
            return False
        last.reopen()
        self._start(session, session.resume, last)
        return True

    def edit(self, entry: UserEntry) -> bool:
        """Moves an earlier message to the prompt; sending it branches off there.

        Returns:
            False if the session is busy.
        """
        if not self.idle_session:
            return False
        self.editing = entry
        self.tray.take()
        self.return_to_prompt(entry, self.prompt.put)
        self.prompt.focus()
        return True

    def delete(self, entry: TranscriptEntry) -> bool:
        """Deletes an entry, and with a question its answer or with an answer its question.

        Returns:
            False if the session is busy.
        """
        session, entries = self.idle_session, self.transcript.entries
        if not session:
            return False
        self._deleted.append(delete_exchange(entries, session.messages, entry))
        self.transcript.replace(entries)
        self.save_in_background(session)
        return True

    def restore_deleted(self) -> bool:
        """Restores what was deleted last; returns False if there is nothing, or not now."""
        session = self.idle_session
        if not session or not self._deleted:
            return False
        entries = self.transcript.entries
        restore_exchange(entries, session.messages, self._deleted.pop())
        self.transcript.replace(entries)
        self.save_in_background(session)
        return True

    def show_conversation(
        self,
        messages: list[Message],
        conversation_id: int | None = None,
        settings: Settings | None = None,
    ) -> bool:
        """Shows another conversation, or a new one without messages.

        Args:
            messages: of the conversation.
            conversation_id: its id in the history; None for a new one.
            settings: its saved settings; None to leave them unchanged.

        Returns:
            False if the session is busy.
        """
        if not (session := self.idle_session):
            return False
        session.messages = messages
        if self.tool_use:
            self.tool_use.begin_conversation()
        if settings:
            session.update_settings(replace(settings, template=session.settings.template))
        self.saver.conversation_id, self.editing = conversation_id, None
        self._deleted.clear()
        welcome: list[TranscriptEntry] = [] if messages else [_welcome(session)]
        self.transcript.replace(welcome + entries_of(messages))
        self._describe_media()
        return True

    @work(exclusive=True, group="describe")
    async def _describe_media(self) -> None:
        """Decodes the media of a saved conversation for its previews, the latest first."""
        for entry in reversed(self.transcript.entries):
            if isinstance(entry, UserEntry) and entry.attachments:
                entry.attachments = await asyncio.to_thread(all_described, entry.attachments)
                entry.touch()
                self.transcript.changed()

    def last_answer(self) -> AnswerEntry | None:
        """Returns the last answer, finished or growing."""
        return last_answer(self.transcript.entries)

    def last_question(self) -> UserEntry | None:
        """Returns the last message of the user that is not queued."""
        return last_question(self.transcript.entries)

    def return_queue(self) -> None:
        """Moves all queued messages back to the prompt."""
        for entry in reversed(self._queue):
            self.transcript.remove_entry(entry)
            self.return_to_prompt(entry, self.prompt.restore)
        self._queue.clear()

    def unsent(self) -> tuple[str, list[Media]]:
        """Returns the queued messages and the prompt, and what is attached to them."""
        texts = [entry.text for entry in self._queue] + [self.prompt.text]
        attached = [one for entry in self._queue for one in entry.attachments]
        media = [one.media for one in (*attached, *self.tray.attachments)]
        return "\n".join(text for text in texts if text.strip()), media

    def notice(self, text: str, hint: str = "", *, error: bool = False) -> None:
        """Adds a notice to the transcript, before the queued messages."""
        entry = NoticeEntry(text, hint, error=error)
        self.transcript.insert(len(self.transcript.entries) - self.queued, entry)

    @property
    def idle_session(self) -> Session | None:
        """Returns the session unless it is busy or lent."""
        return self.session if self.answer is None and not self._lent else None

    def _answer_next(self) -> None:
        if self.answer is not None or self._lent:
            return
        if self._next_session:
            self._switch_session(self._next_session)
        if self.session is None or not self._queue:
            return
        if self.editing:
            self._branch(self.session, self.editing)
        entry = self._queue.pop(0)
        entry.queued = False
        entry.touch()
        self._asked_at = len(self.session.messages)
        media = [one.media for one in entry.attachments]
        self._start(self.session, partial(self.session.ask, entry.text, media), AnswerEntry())

    def _switch_session(self, session: Session) -> None:
        old, self.session, self._next_session = self.session, session, None
        if old and self._default_settings:
            session.messages = old.messages
            default, self._default_settings = self._default_settings, session.settings
            session.update_settings(carried_over(old.settings, default, session.settings))
            if isinstance(first := next(iter(self.transcript.entries), None), WelcomeEntry):
                self.transcript.remove_entry(first)
                self.transcript.insert(0, _welcome(session))
            self.notice(f"{session.name} answers from here on")
        else:
            self._default_settings = session.settings
            if not self._queue:
                self.transcript.insert(0, _welcome(session))
        self.tray.measure_with(session.media_tokens)
        self.post_message(ModelChanged())

    def _branch(self, session: Session, at: UserEntry) -> None:
        """Discards a message and all after it; the old conversation stays in the history."""
        entries = self.transcript.entries
        session.messages = session.messages[: message_index(entries, at)]
        queued: list[TranscriptEntry] = list(self._queue)
        self.transcript.replace(entries[: entries.index(at)] + queued)
        self.saver.conversation_id = self.editing = None
        self._deleted.clear()

    def _start(
        self, session: Session, events: Callable[[], Iterator[Event]], answer: AnswerEntry
    ) -> None:
        if answer not in self.transcript.entries:
            self.transcript.insert(len(self.transcript.entries) - self.queued, answer)
        # Each blink redraws a part of the screen, which costs as much as more of the answer.
        self.prompt.cursor_blink = False
        if self.tool_use:
            ask, show = self._ask, partial(self._show_call, answer)
            events = partial(self.tool_use.events, session, events, ask, show)
        self.start_answer(session, events, answer)

    def stop(self) -> bool:
        """Cancels the running answer and its tools; returns False if there is none."""
        if self.tool_use:
            self.tool_use.stop()
        return super().stop()

    def _ask(self, tool: HostedTool, arguments: Mapping[str, Any]) -> Future[Approval | None]:
        """Asks about a call; called in the generating thread."""
        future: Future[Approval | None] = Future()
        screen = ApproveScreen(tool.server, tool.name, arguments)
        self.app.call_from_thread(self.app.push_screen, screen, future.set_result)
        return future

    def _show_call(self, answer: AnswerEntry, call: str, result: str | None) -> None:
        """Shows a call in an answer; called in the generating thread."""

        def show() -> None:
            answer.show_call(call, result)
            self.draw_answer()

        self.app.call_from_thread(show)

    def draw_answer(self) -> None:
        """Updates the transcript."""
        self.transcript.changed()

    def end_answer(self, answer: AnswerEntry | None, error: BaseException | None) -> None:
        """Shows an error, if any, and answers the next message."""
        self.prompt.cursor_blink = True
        if error and answer:
            self._show_failure(answer, error)
        self._asked_at = None
        self.post_message(GenerationEnded())
        self._answer_next()

    def _show_failure(self, answer: AnswerEntry, error: BaseException) -> None:
        """Shows an error; a question without any answer returns to the prompt."""
        session, entries = self.session, self.transcript.entries
        if session and not answer.rounds and self._asked_at is not None:
            index = entries.index(answer)
            question = entries[index - 1]
            self.transcript.remove_entry(answer)
            if isinstance(question, UserEntry):
                self.transcript.remove_entry(question)
                self.return_to_prompt(question, self.prompt.restore)
            # The question, and the empty answer if it was started.
            del session.messages[self._asked_at :]
        elif answer.finish is None:
            answer.end(FinishReason.CANCELLED, session.stats() if session else None)
        if isinstance(error, LocalmtpError):
            self.notice(error.message, error.hint, error=True)
        else:
            text = f"{type(error).__name__}: {error}"
            self.notice(text, "please report this as a bug", error=True)

    @on(SavedAsCopy)
    def _saved_as_copy(self) -> None:
        self.notice("this conversation was changed in another chat; this one is saved as a copy")

    @on(RecallQueued)
    def _recall_queued(self) -> None:
        if self._queue:
            entry = self._queue.pop()
            self.transcript.remove_entry(entry)
            self.return_to_prompt(entry, self.prompt.put)
        else:
            self.prompt.recall(-1)


def _welcome(session: Session) -> WelcomeEntry:
    # Servers may serve any model under this name.
    is_toy = session.name == "nano" and session.place == HERE
    return WelcomeEntry(session.name, session.place, is_toy=is_toy)
