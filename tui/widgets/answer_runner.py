"""Generates answers in a thread and draws them while they grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.containers import Vertical
from textual.worker import Worker, WorkerState

from localmtp.engine.events import Event
from localmtp.tui.answer_stream import AnswerStream
from localmtp.tui.conversation_saver import ConversationSaver
from localmtp.tui.draw_pacing import DRAW_EVERY_S, DrawPacer
from localmtp.tui.messages import GenerationStarted, SavedAsCopy, SaveFailed
from localmtp.tui.rendering.answer_entry import AnswerEntry

if TYPE_CHECKING:
    from localmtp.session import Session


class AnswerRunner(Vertical):
    """Runs one answer at a time.

    Only this class starts answers, and nothing else here uses the session while it generates.

    Args:
        drawn: called after more of an answer was drawn.
        id: of the widget.
    """

    def __init__(self, drawn: Callable[[], None], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.answer: AnswerEntry | None = None
        """The answer being written."""
        self.saver = ConversationSaver(
            failed=lambda error: self.post_message(SaveFailed(error)),
            copied=lambda: self.post_message(SavedAsCopy()),
        )
        self._drawn = drawn
        self._stream: AnswerStream | None = None
        self._pacer = DrawPacer()

    def on_unmount(self) -> None:
        """Stops the generating thread, however the program ends."""
        self.stop()

    def stop(self) -> bool:
        """Cancels the running answer and keeps its text; returns False if there is none."""
        if self._stream is None or self.answer is None:
            return False
        self._stream.stop()
        return True

    def start_answer(
        self, session: Session, events: Callable[[], Iterator[Event]], answer: AnswerEntry
    ) -> None:
        """Starts an answer.

        Args:
            session: idle; generates the answer.
            events: starts to generate; called in the thread.
            answer: shows the answer.
        """
        self.answer = answer
        self._stream = AnswerStream(session)

        def save(last_only: bool) -> None:
            self.saver.save(session, last_only=last_only)

        run = partial(self._stream.run, events, save)
        self.run_worker(run, group="answer", thread=True, exit_on_error=False)
        self._pacer = DrawPacer()
        self.set_timer(DRAW_EVERY_S, self._draw_periodically)
        self.post_message(GenerationStarted())

    def save_in_background(self, session: Session) -> None:
        """Saves the conversation in a thread."""
        save = partial(self.saver.save, session)
        self.run_worker(save, thread=True, group="save", exit_on_error=False)

    def draw_answer(self) -> None:
        """Shows that the answer changed; overridden by the widget with the transcript."""
        raise NotImplementedError

    def end_answer(self, answer: AnswerEntry | None, error: BaseException | None) -> None:
        """Handles the end of an answer; the session is idle."""
        raise NotImplementedError

    def _draw_periodically(self) -> None:
        """Draws new text until the answer ends."""
        if self.answer is None:
            return
        self._draw()
        self.set_timer(self._pacer.next_interval(), self._draw_periodically)

    def _draw(self) -> None:
        if self.answer is None or self._stream is None or not (events := self._stream.take()):
            return
        self.answer.take(events)
        self.draw_answer()
        self._drawn()

    @on(Worker.StateChanged)
    def _worker_changed(self, event: Worker.StateChanged) -> None:
        event.stop()
        ended = event.state in (WorkerState.SUCCESS, WorkerState.ERROR)
        if ended and event.worker.group == "answer":
            self._draw()
            answer, self.answer = self.answer, None
            self.end_answer(answer, event.worker.error)
