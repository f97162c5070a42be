"""The conversation: transcript and prompt, and the answers between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import thread_time
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.worker import Worker, WorkerState

from localmtp.engine.events import Event, FinishReason
from localmtp.errors import LocalmtpError
from localmtp.tui.commands.settings import carried
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.drawing.entries import AnswerEntry, Entry, NoticeEntry, UserEntry, WelcomeEntry
from localmtp.tui.feed import Feed
from localmtp.tui.messages import (
    AnswerBegan,
    AnswerEnded,
    CompletionWanted,
    ModelChanged,
    NotSaved,
    TakeBack,
    TypedElsewhere,
)
from localmtp.tui.widgets.activity import Activity
from localmtp.tui.widgets.completion import Completion
from localmtp.tui.widgets.prompt import Prompt
from localmtp.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localmtp.history import History
    from localmtp.session import Message, Session, Settings

DRAW_EVERY_S = 1 / 10
"""Smooth to read; faster is not seen, and taken from the model."""

SLOWEST_DRAW_S = 0.5
SHARE_OF_A_CORE = 0.05
"""Drawing waits until what it cost is this share of the time since."""


class Conversation(Vertical):
    """Sends what the user writes, one after the other, and shows what comes back.

    The session works in a thread, one answer at a time; only this class starts one, and
    nothing else here touches the session while it works.

    Args:
        brush: for the colours.
        drawn: called when more of an answer is drawn.
        id: as of every widget.
    """

    def __init__(
        self,
        brush: Brush,
        drawn: Callable[[], None],
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self.session: Session | None = None
        self.answer: AnswerEntry | None = None
        """The answer being written."""
        self.history: History | None = None
        """Where the conversation is stored."""
        self.saved: int | None = None
        """Its id there."""
        self.editing: UserEntry | None = None
        """The earlier message that stands in the prompt to be changed."""
        self._brush = brush
        self._drawn = drawn
        self._feed: Feed | None = None
        self._successor: Session | None = None
        self._default: Settings | None = None
        self._lent = False
        self._waiting: list[UserEntry] = []
        self._asked_at: int | None = None
        self._drawn_at_cpu = 0.0

    def compose(self) -> ComposeResult:
        """From above: what was said, what happens, what is written next."""
        yield Transcript(self._brush, id="transcript")
        yield Activity(id="activity")
        yield Completion(id="completion")
        yield Prompt(id="prompt")

    def on_unmount(self) -> None:
        """However the program ends: the thread that generates must not go on."""
        self.stop()

    @property
    def transcript(self) -> Transcript:
        """What was said."""
        return self.query_one(Transcript)

    @property
    def prompt(self) -> Prompt:
        """What is written next."""
        return self.query_one(Prompt)

    @property
    def waiting(self) -> int:
        """How many messages wait their turn."""
        return len(self._waiting)

    def begin(self, session: Session) -> None:
        """A model is there: it answers from the next message on."""
        self._successor = session
        self._next()

    def lend(self) -> Session | None:
        """The session, to be used elsewhere until `give_back`; None while it works."""
        session = self._idle()
        self._lent = session is not None
        return session

    def give_back(self) -> None:
        """Goes on with what came meanwhile."""
        self._lent = False
        self._next()

    def send(self, text: str) -> None:
        """Asks, or lets the message wait its turn."""
        entries = self.transcript.entries
        if entries and isinstance(entries[0], WelcomeEntry):
            self.transcript.take_out(entries[0])
        entry = UserEntry(text, waiting=True)
        self._waiting.append(entry)
        self.transcript.add(entry)
        self._next()

    def stop(self) -> bool:
        """Ends the running answer, which is kept; False if there is none."""
        if self._feed is None or self.answer is None:
            return False
        self._feed.stop()
        return True

    def regenerate(self) -> bool:
        """Answers the last question once more; False if that cannot be done now."""
        session, entries = self._idle(), self.transcript.entries
        if not session or not entries or not isinstance(entries[-1], AnswerEntry):
            return False
        session.messages.pop()
        self.transcript.take_out(entries[-1])
        self._start(session, session.answer, AnswerEntry())
        return True

    def resume(self) -> bool:
        """Goes on with the last answer, if it was cut."""
        session, entries = self._idle(), self.transcript.entries
        last = entries[-1] if entries else None
        if not session or not isinstance(last, AnswerEntry) or last.finish is FinishReason.STOP:
            return False
        last.reopen()
        self._start(session, session.resume, last)
        return True

    def edit(self, entry: UserEntry) -> bool:
        """Puts an earlier message into the prompt; sending it begins a branch there."""
        if not self._idle():
            return False
        self.editing = entry
        self.prompt.put(entry.text)
        self.prompt.focus()
        return True

    def delete(self, entry: Entry) -> bool:
        """Deletes a message, and with a question its answer, or with an answer its question."""
        session, entries = self._idle(), self.transcript.entries
        if not session:
            return False
        first = entries.index(entry)
        if isinstance(entry, AnswerEntry):
            first -= 1
        answered = isinstance(entry, UserEntry | AnswerEntry)
        if answered:
            position = self._position(entries[first])
            del session.messages[position : position + 2]
        self.transcript.replace(entries[:first] + entries[first + 1 + answered :])
        self.run_worker(self._keep, thread=True, group="keep", exit_on_error=False)
        return True

    def show(
        self,
        messages: list[Message],
        saved: int | None = None,
        settings: Settings | None = None,
    ) -> bool:
        """Goes on with another conversation; with a new one, if there are no messages.

        Args:
            messages: of that conversation.
            saved: its id in the history.
            settings: how it was going; None to leave them as they are.
        """
        if not (session := self._idle()):
            return False
        session.messages = messages
        if settings:
            session.update_settings(settings)
        self.saved, self.editing = saved, None
        welcome: list[Entry] = [] if messages else [_welcome(session)]
        self.transcript.replace(welcome + [_entry(message) for message in messages])
        return True

    def last_answer(self) -> AnswerEntry | None:
        """The answer that was written last, or is being written."""
        answers = (e for e in reversed(self.transcript.entries) if isinstance(e, AnswerEntry))
        return next(answers, None)

    def give_up(self) -> None:
        """Nothing will be answered: what waits goes back into the prompt."""
        for entry in reversed(self._waiting):
            self.transcript.take_out(entry)
            self.prompt.restore(entry.text)
        self._waiting.clear()

    def unsent(self) -> str:
        """What waits its turn and what stands in the prompt."""
        texts = [entry.text for entry in self._waiting] + [self.prompt.text]
        return "\n".join(text for text in texts if text.strip())

    def say(self, text: str, hint: str = "", *, error: bool = False) -> None:
        """Puts a line of the program's own into the transcript, before what waits."""
        notice = NoticeEntry(text, hint, error=error)
        self.transcript.insert(len(self.transcript.entries) - self.waiting, notice)

    def _idle(self) -> Session | None:
        return self.session if self.answer is None and not self._lent else None

    def _position(self, entry: Entry) -> int:
        """Of an entry's message among the session's."""
        before = self.transcript.entries[: self.transcript.entries.index(entry)]
        return sum(isinstance(other, UserEntry | AnswerEntry) for other in before)

    def _next(self) -> None:
        if self.answer is not None or self._lent:
            return
        if self._successor:
            self._succeed(self._successor)
        if self.session is None or not self._waiting:
            return
        if self.editing:
            self._branch(self.session, self.editing)
        entry = self._waiting.pop(0)
        entry.waiting = False
        entry.touch()
        self._asked_at = len(self.session.messages)
        self._start(self.session, partial(self.session.ask, entry.text), AnswerEntry())

    def _succeed(self, session: Session) -> None:
        old, self.session, self._successor = self.session, session, None
        if old and self._default:
            session.messages = old.messages
            default, self._default = self._default, session.settings
            session.update_settings(carried(old.settings, default, session.settings))
            self.say(f"{session.name} answers from here on")
        else:
            self._default = session.settings
            if not self._waiting:
                self.transcript.insert(0, _welcome(session))
        self.post_message(ModelChanged())

    def _branch(self, session: Session, at: UserEntry) -> None:
        """Goes back to before a message; the old conversation stays in the history."""
        session.messages = session.messages[: self._position(at)]
        entries = self.transcript.entries
        waiting: list[Entry] = list(self._waiting)
        self.transcript.replace(entries[: entries.index(at)] + waiting)
        self.saved = self.editing = None

    def _start(
        self, session: Session, events: Callable[[], Iterator[Event]], answer: AnswerEntry
    ) -> None:
        self.answer, self._feed = answer, Feed(session)
        if answer not in self.transcript.entries:
            self.transcript.insert(len(self.transcript.entries) - self.waiting, answer)
        pumping = partial(self._feed.pump, events, self._keep)
        self.run_worker(pumping, group="answer", thread=True, exit_on_error=False)
        self._drawn_at_cpu = thread_time()
        # Each blink draws a part of the screen, which costs as much as more of the answer.
        self.prompt.cursor_blink = False
        self.set_timer(DRAW_EVERY_S, self._draw_again)
        self.post_message(AnswerBegan())

    def _keep(self, last_alone: bool = False) -> None:
        """Stores the conversation; in the thread that generates."""
        if not self.session or not self.history:
            return
        try:
            messages = self.session.messages
            if self.saved is None and messages:
                self.saved = self.history.begin(messages[0].text, self.session.name)
            if self.saved is not None:
                since = max(0, len(messages) - 1) if last_alone else 0
                self.history.save(self.saved, messages, self.session.settings, since=since)
        except LocalmtpError as error:
            self.history = None
            self.post_message(NotSaved(error))

    def _draw_again(self) -> None:
        """Draws what came, and the less often the more that costs."""
        if self.answer is None:
            return
        self._draw()
        cpu = thread_time()
        pause = (cpu - self._drawn_at_cpu) / SHARE_OF_A_CORE
        self._drawn_at_cpu = cpu
        self.set_timer(min(SLOWEST_DRAW_S, max(DRAW_EVERY_S, pause)), self._draw_again)

    def _draw(self) -> None:
        answer, feed = self.answer, self._feed
        if answer is None or feed is None or not (events := feed.take()):
            return
        answer.take(events)
        self.transcript.changed()
        self._drawn()

    @on(Worker.StateChanged)
    def _worker_changed(self, event: Worker.StateChanged) -> None:
        event.stop()
        ended = event.state in (WorkerState.SUCCESS, WorkerState.ERROR)
        if ended and event.worker.group == "answer":
            self._ended(event.worker.error)

    def _ended(self, error: BaseException | None) -> None:
        self._draw()
        answer, self.answer = self.answer, None
        self.prompt.cursor_blink = True
        if error and answer:
            self._failed(answer, error)
        self._asked_at = None
        self.post_message(AnswerEnded())
        self._next()

    def _failed(self, answer: AnswerEntry, error: BaseException) -> None:
        """Says what went wrong; what was asked and nothing answered goes back into the prompt."""
        session, entries = self.session, self.transcript.entries
        if session and not answer.rounds and self._asked_at is not None:
            index = entries.index(answer)
            question = entries[index - 1]
            self.transcript.take_out(answer)
            if isinstance(question, UserEntry):
                self.transcript.take_out(question)
                self.prompt.restore(question.text)
            # What was asked, and the empty answer if it had begun.
            del session.messages[self._asked_at :]
        elif answer.finish is None:
            answer.end(FinishReason.CANCELLED, session.stats() if session else None)
        if isinstance(error, LocalmtpError):
            self.say(error.message, error.hint, error=True)
        else:
            self.say(f"{type(error).__name__}: {error}", "please report this", error=True)

    @on(TypedElsewhere)
    def _typed_elsewhere(self, event: TypedElsewhere) -> None:
        self.prompt.type(event.character)

    @on(Prompt.Changed)
    def _prompt_changed(self) -> None:
        self.query_one(Completion).follow(self.prompt.text)

    @on(CompletionWanted)
    def _complete(self) -> None:
        if commands := self.query_one(Completion).commands:
            self.prompt.put(f"/{commands[0].name} ")

    @on(TakeBack)
    def _take_back(self) -> None:
        if self._waiting:
            entry = self._waiting.pop()
            self.transcript.take_out(entry)
            self.prompt.put(entry.text)
        else:
            self.prompt.recall(-1)


def _welcome(session: Session) -> WelcomeEntry:
    return WelcomeEntry(session.name, session.place)


def _entry(message: Message) -> Entry:
    if message.role == "user":
        return UserEntry(message.text)
    entry = AnswerEntry(message.text, message.thought)
    entry.end(message.finish or FinishReason.CANCELLED, message.stats)
    return entry
