"""Shows a race: one prompt answered with drafting off and on."""

from __future__ import annotations

from statistics import median
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

from localmtp.tui.race import MAX_RUNS, Race, RaceRun, measured_speedup, verdict
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.entries import UserEntry
from localmtp.tui.rendering.formatting import duration, rate, show_controls
from localmtp.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localmtp.session import Session

DRAW_EVERY_S = 1 / 10

_LANES = ("drafting off", "drafting on")


class RaceScreen(Screen[float | None]):
    """Shows the first answer of each kind side by side, and the result of all.

    Dismissed with the decode speed with drafting off in tokens/s, or None without a clear result.

    Args:
        session: idle; its conversation and settings are restored at the end.
        question: to answer, with its attachments.
        brush: for the colours.
    """

    AUTO_FOCUS = ""
    BINDINGS = [Binding("escape,q", "leave", "Close")]  # noqa: RUF012 - Textual's own type

    def __init__(self, session: Session, question: UserEntry, brush: Brush) -> None:
        super().__init__()
        self._question = question
        self._brush = brush
        self.race = Race(session, question.text, [one.media for one in question.attachments])
        self._leaving = False
        self.is_over = False
        """Whether all answers have ended."""

    def compose(self) -> ComposeResult:
        """Yields the prompt, two lanes and the result."""
        yield Transcript(self._brush, id="question")
        with Horizontal(id="lanes"):
            for number, name in enumerate(_LANES):
                with Vertical(classes="lane"):
                    yield Static(name, id=f"clock{number}", classes="clock")
                    yield Transcript(self._brush, id=f"lane{number}")
        yield Static("warming up …", id="result")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Starts the race."""
        for transcript in self.query(Transcript):
            # Nothing can be edited here; a cursor would only intercept Esc.
            transcript.can_focus = False
        self.query_one("#question", Transcript).replace([self._question])
        self.set_interval(DRAW_EVERY_S, self._draw)
        self.run_worker(self.race.run, thread=True, exit_on_error=False)

    def action_leave(self) -> None:
        """Closes once the session is idle."""
        self._leaving = True
        self.race.stop()
        if self.is_over:
            self._finish()

    def on_unmount(self) -> None:
        """Stops the generating thread."""
        self.race.stop()

    def _draw(self) -> None:
        runs = list(self.race.runs)
        for run in runs:
            if events := run.stream.take():
                run.entry.take(events)
        for number in range(len(_LANES)):
            lane = [run for run in runs if run.counted and run.drafting == bool(number)]
            if lane:
                transcript = self.query_one(f"#lane{number}", Transcript)
                if transcript.entries != [lane[0].entry]:
                    transcript.replace([lane[0].entry])
                transcript.changed()
            self.query_one(f"#clock{number}", Static).update(self._clock(number, lane))
        if not self.is_over and len(runs) > 1:
            number = len(runs) // len(_LANES)
            self.query_one("#result", Static).update(
                f"run {number} of up to {MAX_RUNS}, drafting off and on in turns"
            )

    def _clock(self, number: int, lane: list[RaceRun]) -> Text:
        brush = self._brush
        stats = [run.stats for run in lane if run.stats]
        name = _LANES[number]
        if number and stats and not any(one.drafted for one in stats):
            name = "drafting paused"
        text = Text.assemble((name, brush.draft if name == "drafting on" else brush.plain))
        if stats:
            speed = median(one.decode_tokens_per_s for one in stats)
            text.append(f"   decode {rate(speed)} tok/s", brush.plain)
        elif lane:
            text.append(f"   {duration(monotonic() - lane[0].started_at)}", brush.plain)
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
            result = f"{verdict(*self.race.pairs())}{self._comparison()}"
        self.query_one("#result", Static).update(Text(show_controls(result), overflow="fold"))

    def _comparison(self) -> str:
        texts = {run.entry.text for run in self.race.runs if run.counted and run.stats}
        if not texts:
            return ""
        return "; identical texts" if len(texts) == 1 else "; texts differ (near-ties)"

    def _finish(self) -> None:
        off, on = self.race.pairs()
        speedup = measured_speedup(off, on)
        plain = median(one.decode_tokens_per_s for one in off) if speedup else None
        self.dismiss(plain)
