"""Answers one prompt with drafting off and on, and compares the decode speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Footer, Static
from textual.worker import Worker, WorkerState

from localmtp.tui.answer_stream import AnswerStream
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.entries import UserEntry
from localmtp.tui.rendering.formatting import duration, rate
from localmtp.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localmtp.session import Session

DRAW_EVERY_S = 1 / 10

MAX_TOKENS = 512
"""Of each answer: enough to see a difference, and short."""

_LANES = ("drafting off", "drafting on")


class RaceScreen(Screen[float | None]):
    """Shows two answers side by side; dismissed with the decode speed without drafting.

    That speed is in tokens/s, or None if it was not measured. The answers are generated one after
    the other, so that neither slows the other down, and greedily, so that the texts are comparable.

    Args:
        session: idle; its conversation and settings are restored at the end.
        prompt: to answer.
        brush: for the colours.
    """

    AUTO_FOCUS = ""
    BINDINGS = [Binding("escape,q", "leave", "Close")]  # noqa: RUF012 - Textual's own type

    def __init__(self, session: Session, prompt: str, brush: Brush) -> None:
        super().__init__()
        self._session = session
        self._prompt = prompt
        self._brush = brush
        self._streams = (AnswerStream(session), AnswerStream(session))
        self._answers = (AnswerEntry(), AnswerEntry())
        self._started_at: list[float] = []
        self._leaving = False
        self.is_over = False
        """Whether both answers have ended."""

    def compose(self) -> ComposeResult:
        """Yields the prompt, two lanes and the result."""
        yield Transcript(self._brush, id="question")
        with Horizontal(id="lanes"):
            for number, name in enumerate(_LANES):
                with Vertical(classes="lane"):
                    yield Static(name, id=f"clock{number}", classes="clock")
                    yield Transcript(self._brush, id=f"lane{number}")
        yield Static(id="result")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Starts at once."""
        for transcript in self.query(Transcript):
            # Nothing here can be edited; a cursor would only be in the way of Esc.
            transcript.can_focus = False
        self.query_one("#question", Transcript).replace([UserEntry(self._prompt)])
        for number, answer in enumerate(self._answers):
            self.query_one(f"#lane{number}", Transcript).replace([answer])
        self.set_interval(DRAW_EVERY_S, self._draw)
        self.run_worker(self._run, thread=True, exit_on_error=False)
        self.query_one("#result", Static).update("one after the other on one loaded pair, greedy")

    def action_leave(self) -> None:
        """Closes once the session is idle."""
        self._stop()
        if self.is_over:
            self._finish()

    def on_unmount(self) -> None:
        """Stops the generating thread."""
        self._stop()

    def _stop(self) -> None:
        self._leaving = True
        for stream in self._streams:
            stream.stop()

    def _run(self) -> None:
        """Generates both answers; runs in a thread."""
        with _restored(self._session) as session:
            for stream, n_draft in zip(self._streams, (0, None), strict=True):
                if self._leaving:
                    return
                sampling = replace(session.settings.sampling, temperature=0.0)
                limit = min(session.settings.max_tokens or MAX_TOKENS, MAX_TOKENS)
                session.update_settings(
                    replace(session.settings, sampling=sampling, n_draft=n_draft, max_tokens=limit)
                )
                session.messages = []
                self._started_at.append(monotonic())
                stream.run(lambda: session.ask(self._prompt), lambda _: None)

    def _draw(self) -> None:
        for number, (stream, answer) in enumerate(zip(self._streams, self._answers, strict=True)):
            if events := stream.take():
                answer.take(events)
                self.query_one(f"#lane{number}", Transcript).changed()
            self.query_one(f"#clock{number}", Static).update(self._clock(number, answer))

    def _clock(self, number: int, answer: AnswerEntry) -> Text:
        brush = self._brush
        text = Text.assemble((_LANES[number], brush.draft if number else brush.plain))
        if answer.stats:
            seconds = answer.stats.ttft_s + answer.stats.decode_s
            text.append(f"   {duration(seconds)}", brush.plain)
            text.append(f"   decode {rate(answer.stats.decode_tokens_per_s)} tok/s", brush.muted)
        elif len(self._started_at) > number:
            text.append(f"   {duration(monotonic() - self._started_at[number])}", brush.plain)
        return text

    @on(Worker.StateChanged)
    def _ended(self, event: Worker.StateChanged) -> None:
        if event.state not in (WorkerState.SUCCESS, WorkerState.ERROR):
            return
        self.is_over = True
        if self._leaving:
            self._finish()
            return
        self._draw()
        result = f"race failed: {event.worker.error}"
        if event.state is WorkerState.SUCCESS:
            result = self._result()
        self.query_one("#result", Static).update(result)

    def _finish(self) -> None:
        plain = self._answers[0].stats
        self.dismiss(plain.decode_tokens_per_s if plain and plain.decode_s > 0 else None)

    def _result(self) -> str:
        plain, drafted = (answer.stats for answer in self._answers)
        if not plain or not drafted or not plain.decode_tokens_per_s:
            return "too short to compare"
        times = drafted.decode_tokens_per_s / plain.decode_tokens_per_s
        equal = self._answers[0].text == self._answers[1].text
        texts = "identical texts" if equal else "texts differ (near-ties)"
        return f"speedup {times:.2f}×, {texts}"


@contextmanager
def _restored(session: Session) -> Iterator[Session]:
    """Restores the session's conversation and settings at the end."""
    messages, settings = session.messages, session.settings
    try:
        yield session
    finally:
        session.messages = messages
        session.update_settings(settings)
