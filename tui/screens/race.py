"""The same prompt twice: without drafting, then with it."""

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

from localmtp.tui.drawing.brush import Brush
from localmtp.tui.drawing.entries import AnswerEntry, UserEntry
from localmtp.tui.drawing.text import duration, rate
from localmtp.tui.feed import Feed
from localmtp.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localmtp.session import Session

DRAW_EVERY_S = 1 / 10

LONGEST = 512
"""Tokens of each answer: enough to see a difference, soon over."""

_LANES = ("drafting off", "drafting on")


class RaceScreen(Screen[float | None]):
    """Two answers side by side; the conversation is not touched.

    Ends with the speed without drafting in tokens/s, or None if it was not measured.

    One pair is loaded, so the two run one after the other, each with the machine to itself;
    greedy, because only then are the texts comparable.

    Args:
        session: idle; given back as it was.
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
        self._feeds = (Feed(session), Feed(session))
        self._answers = (AnswerEntry(), AnswerEntry())
        self._began: list[float] = []
        self._leaving = False
        self.is_over = False
        """Whether both have answered."""

    def compose(self) -> ComposeResult:
        """The prompt, two lanes, the verdict."""
        yield Transcript(self._brush, id="question")
        with Horizontal(id="lanes"):
            for number, name in enumerate(_LANES):
                with Vertical(classes="lane"):
                    yield Static(name, id=f"clock{number}", classes="clock")
                    yield Transcript(self._brush, id=f"lane{number}")
        yield Static(id="verdict")
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
        self.query_one("#verdict", Static).update("one after the other on one loaded pair, greedy")

    def action_leave(self) -> None:
        """Closes, as soon as the session is free."""
        self._stop()
        if self.is_over:
            self._finish()

    def on_unmount(self) -> None:
        """The program ends: the thread must not go on."""
        self._stop()

    def _stop(self) -> None:
        self._leaving = True
        for feed in self._feeds:
            feed.stop()

    def _run(self) -> None:
        """Both lanes; in a thread."""
        with _borrowed(self._session) as session:
            for feed, n_draft in zip(self._feeds, (0, None), strict=True):
                if self._leaving:
                    return
                sampling = replace(session.settings.sampling, temperature=0.0)
                limit = min(session.settings.max_tokens or LONGEST, LONGEST)
                session.update_settings(
                    replace(session.settings, sampling=sampling, n_draft=n_draft, max_tokens=limit)
                )
                session.messages = []
                self._began.append(monotonic())
                feed.pump(lambda: session.ask(self._prompt), lambda _: None)

    def _draw(self) -> None:
        for number, (feed, answer) in enumerate(zip(self._feeds, self._answers, strict=True)):
            if events := feed.take():
                answer.take(events)
                self.query_one(f"#lane{number}", Transcript).changed()
            self.query_one(f"#clock{number}", Static).update(self._clock(number, answer))

    def _clock(self, number: int, answer: AnswerEntry) -> Text:
        brush = self._brush
        text = Text.assemble((_LANES[number], brush.draft if number else brush.plain))
        if answer.stats:
            seconds = answer.stats.ttft_s + answer.stats.decode_s
            text.append(f"   {duration(seconds)}", brush.plain)
            text.append(f"   {rate(answer.stats.decode_tokens_per_s)} tok/s", brush.muted)
        elif len(self._began) > number:
            text.append(f"   {duration(monotonic() - self._began[number])}", brush.plain)
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
        verdict = f"it could not be run: {event.worker.error}"
        if event.state is WorkerState.SUCCESS:
            verdict = self._verdict()
        self.query_one("#verdict", Static).update(verdict)

    def _finish(self) -> None:
        plain = self._answers[0].stats
        self.dismiss(plain.decode_tokens_per_s if plain and plain.decode_s > 0 else None)

    def _verdict(self) -> str:
        plain, drafted = (answer.stats for answer in self._answers)
        if not plain or not drafted or not plain.decode_tokens_per_s:
            return "too short to compare"
        times = drafted.decode_tokens_per_s / plain.decode_tokens_per_s
        equal = self._answers[0].text == self._answers[1].text
        texts = "the texts are equal" if equal else "the texts differ, as near-ties may"
        return f"{times:.2f} times as fast with drafting; {texts}"


@contextmanager
def _borrowed(session: Session) -> Iterator[Session]:
    """A session whose conversation and settings come back as they were."""
    messages, settings = session.messages, session.settings
    try:
        yield session
    finally:
        session.messages = messages
        session.update_settings(settings)
