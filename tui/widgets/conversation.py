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

from localmtp.engine.events import Event, Finished, FinishReason, Generated, Prefilled
from localmtp.errors import LocalmtpError
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.entries import AnswerEntry, NoticeEntry, UserEntry
from localmtp.tui.feed import Feed
from localmtp.tui.messages import AnswerBegan, AnswerEnded, TakeBack, TypedElsewhere
from localmtp.tui.widgets.activity import Activity
from localmtp.tui.widgets.prompt import Prompt
from localmtp.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localmtp.session import Session

DRAW_EVERY_S = 1 / 10
"""Smooth to read; faster is not seen, and taken from the model."""

SLOWEST_DRAW_S = 0.5
SHARE_OF_A_CORE = 0.1
"""Drawing waits until what it cost is this share of the time since."""


class Conversation(Vertical):
    """Sends what the user writes, one after the other, and shows what comes back.

    The session works in a thread, one answer at a time; only this class starts one, and
    nothing else here touches the session while it works.
    """

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.session: Session | None = None
        self.answer: AnswerEntry | None = None
        """The answer being written."""
        self._brush = brush
        self._feed = Feed()
        self._waiting: list[UserEntry] = []
        self._asked_at = 0
        self._drawn_at_cpu = 0.0

    def compose(self) -> ComposeResult:
        """From above: what was said, what happens, what is written next."""
        yield Transcript(self._brush, id="transcript")
        yield Activity(id="activity")
        yield Prompt(id="prompt")

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
        """The model is there: answers what waits."""
        self.session = session
        self._next()

    def send(self, text: str) -> None:
        """Asks, or lets the message wait its turn."""
        entry = UserEntry(text, waiting=True)
        self._waiting.append(entry)
        self.transcript.add(entry)
        self._next()

    def stop(self) -> bool:
        """Ends the running answer, which is kept; False if there is none."""
        if self.session is None or self.answer is None:
            return False
        self.session.cancel()
        return True

    def give_up(self) -> None:
        """Nothing will be answered: what waits goes back into the prompt."""
        for entry in reversed(self._waiting):
            self.transcript.take_out(entry)
            self.prompt.restore(entry.text)
        self._waiting.clear()

    def say(self, text: str, hint: str = "", *, error: bool = False) -> None:
        """Puts a line of the program's own into the transcript, before what waits."""
        notice = NoticeEntry(text, hint, error=error)
        self.transcript.insert(len(self.transcript.entries) - self.waiting, notice)

    def _next(self) -> None:
        if self.session is None or self.answer is not None or not self._waiting:
            return
        entry = self._waiting.pop(0)
        entry.waiting = False
        entry.touch()
        self._asked_at = len(self.session.messages)
        self._start(partial(self.session.ask, entry.text))

    def _start(self, events: Callable[[], Iterator[Event]]) -> None:
        self.answer = AnswerEntry()
        self.transcript.insert(len(self.transcript.entries) - self.waiting, self.answer)
        self.run_worker(
            partial(self._feed.pump, events), group="answer", thread=True, exit_on_error=False
        )
        self._drawn_at_cpu = thread_time()
        self.set_timer(DRAW_EVERY_S, self._draw_again)
        self.post_message(AnswerBegan())

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
        answer = self.answer
        if answer is None or not (events := self._feed.take()):
            return
        for event in events:
            match event:
                case Prefilled():
                    answer.prefilled = event
                    answer.touch()
                case Generated():
                    answer.extend(event)
                case Finished():
                    answer.end(event.reason, event.stats)
        self.transcript.changed()

    @on(Worker.StateChanged)
    def _worker_changed(self, event: Worker.StateChanged) -> None:
        event.stop()
        if event.state in (WorkerState.SUCCESS, WorkerState.ERROR):
            self._ended(event.worker.error)

    def _ended(self, error: BaseException | None) -> None:
        self._draw()
        answer, self.answer = self.answer, None
        if error and answer:
            self._failed(answer, error)
        self.post_message(AnswerEnded())
        self._next()

    def _failed(self, answer: AnswerEntry, error: BaseException) -> None:
        """Says what went wrong; what was asked and nothing answered goes back into the prompt."""
        session, entries = self.session, self.transcript.entries
        if session and not answer.rounds:
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

    @on(TakeBack)
    def _take_back(self) -> None:
        if self._waiting:
            entry = self._waiting.pop()
            self.transcript.take_out(entry)
            self.prompt.put(entry.text)
        else:
            self.prompt.recall(-1)
