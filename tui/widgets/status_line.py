"""The line above the prompt: the current state, and a notice or a summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Static

from localmtp.engine.stats import Stats
from localmtp.tui.rendering.answer_entry import AnswerEntry, summary
from localmtp.tui.rendering.formatting import count, percent, show_controls

NOTICE_S = 4.0
"""Seconds for which a notice is shown: long enough to read a line."""

SEPARATOR = " · "


class StatusLine(Horizontal):
    """Shows the state on the left, and a notice or a summary of the statistics on the right."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._timer: Timer | None = None
        self._state_text = ""
        self._summary: tuple[str, ...] = ()
        self._state = Static(id="state")
        self._aside = Static(id="aside")

    def compose(self) -> ComposeResult:
        """Yields the two halves."""
        yield self._state
        yield self._aside

    def show(self, state: str, summary: Sequence[str] = ()) -> None:
        """Shows the state, and as many parts of the summary as fit unless a notice is shown."""
        self._state.update(_one_line(state), layout=False)
        changed = (self._state_text, self._summary) != (state, tuple(summary))
        self._state_text, self._summary = state, tuple(summary)
        if changed and not self._timer:
            self._show_summary()

    def notify_briefly(self, text: str) -> None:
        """Shows a notice for a few seconds."""
        if self._timer:
            self._timer.stop()
        self._aside.update(_one_line(text))
        self._timer = self.set_timer(NOTICE_S, self._end_notice)

    def on_resize(self) -> None:
        """Fits the summary to the new width."""
        if not self._timer:
            self._show_summary()

    def _end_notice(self) -> None:
        self._timer = None
        self._show_summary()

    def _show_summary(self) -> None:
        parts = list(self._summary)
        available = self.content_size.width - len(self._state_text) - len(SEPARATOR)
        while parts and len(SEPARATOR.join(parts)) > available:
            parts.pop()
        self._aside.update(_one_line(SEPARATOR.join(parts)))


def state_text(answer: AnswerEntry | None, stats: Stats | None, queued: int, loading: str) -> str:
    """Describes the current state in one line.

    Args:
        answer: being written.
        stats: of the answer.
        queued: messages after it.
        loading: progress of a model being loaded; may be empty.
    """
    if answer is None:
        return loading
    prefilled = answer.prefilled
    if answer.rounds:
        tokens = stats.completion_tokens if stats else 0
        states = [f"writing{SEPARATOR}{count(tokens, 'token')}" if tokens else "writing"]
    elif prefilled and prefilled.total:
        states = [f"prefill{SEPARATOR}{percent(prefilled.done / prefilled.total)}"]
    else:
        states = ["prefill"]
    if queued:
        states.append(f"{queued} queued")
    return SEPARATOR.join([*states, loading] if loading else states)


def summary_parts(stats: Stats) -> list[str]:
    """Returns the statistics for narrow screens; empty until there is a decode speed."""
    if stats.decode_s <= 0:
        return []
    return summary(stats)[: 3 if stats.drafted else 1]


def _one_line(text: str) -> Text:
    return Text(show_controls(text), no_wrap=True, overflow="ellipsis")
