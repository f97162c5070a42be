"""The line above the prompt: what happens now, and what was just done."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Static

from localmtp.engine.stats import Stats
from localmtp.tui.drawing.entries import AnswerEntry
from localmtp.tui.drawing.text import plural, rate, share

NOTE_S = 4.0
"""How long a note stands: long enough to read a line."""


class Activity(Horizontal):
    """Left the state, right a note or a summary of the statistics."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._timer: Timer | None = None
        self._summary = Text()
        self._state = Static(id="state")
        self._aside = Static(id="aside")

    def compose(self) -> ComposeResult:
        """Two halves."""
        yield self._state
        yield self._aside

    def show(self, state: str, summary: str = "") -> None:
        """Shows the state, and on the right the summary unless a note stands there."""
        self._state.update(Text(state, no_wrap=True, overflow="ellipsis"), layout=False)
        changed = self._summary.plain != summary
        self._summary = Text(summary, no_wrap=True, overflow="ellipsis")
        if changed and not self._timer:
            self._aside.update(self._summary)

    def note(self, text: str) -> None:
        """Says for a moment what was done."""
        if self._timer:
            self._timer.stop()
        self._aside.update(Text(text, no_wrap=True, overflow="ellipsis"))
        self._timer = self.set_timer(NOTE_S, self._forget)

    def _forget(self) -> None:
        self._timer = None
        self._aside.update(self._summary)


def doing(answer: AnswerEntry | None, stats: Stats | None, waiting: int, loading: str) -> str:
    """What happens, in words.

    Args:
        answer: being written.
        stats: of it.
        waiting: messages after it.
        loading: how far a model on its way is.
    """
    prefilled = answer.prefilled if answer else None
    if answer is None:
        return loading
    if stats and stats.completion_tokens:
        states = [f"writing · {plural(stats.completion_tokens, 'token')}"]
    elif prefilled and prefilled.total:
        states = [f"reading the prompt · {share(prefilled.done / prefilled.total)}"]
    else:
        states = ["reading the prompt"]
    if waiting:
        states.append(f"{waiting} waiting")
    return " · ".join([*states, loading] if loading else states)


def brief(stats: Stats) -> str:
    """The statistics where there is no room for them; empty before there is a speed."""
    if stats.decode_s <= 0:
        return ""
    figures = [f"{rate(stats.decode_tokens_per_s)} tok/s"]
    if stats.drafted:
        figures.append(f"{share(stats.acceptance_rate)} accepted")
        figures.append(f"{stats.tokens_per_pass:.2f} per pass")
    return " · ".join(figures)
