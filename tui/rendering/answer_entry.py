"""The transcript entry of an answer: thought, text, coloured tokens and statistics."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.text import Text

from localmtp.engine.events import (
    Channel,
    Event,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Prefilled,
)
from localmtp.engine.stats import Stats
from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.entries import INDENT, TranscriptEntry
from localmtp.tui.rendering.formatting import count, duration, percent, rate, show_controls
from localmtp.tui.rendering.markdown import MarkdownDocument
from localmtp.tui.rendering.rounds import AnswerRound
from localmtp.tui.rendering.tool_lines import ToolCallView, tool_lines

_ENDINGS = {
    FinishReason.CANCELLED: "stopped",
    FinishReason.LENGTH: "token limit reached, /continue resumes",
    FinishReason.REPEAT: "repeated itself",
    FinishReason.LOST: "model lost, /continue resumes",
}


class AnswerEntry(TranscriptEntry):
    """An answer, finished or growing.

    Args:
        text: of a finished answer.
        thought: its thought.
    """

    def __init__(self, text: str = "", thought: str = "") -> None:
        super().__init__()
        self.document = MarkdownDocument(show_controls(text))
        self.thought = show_controls(thought)
        self.thought_tokens = 0
        self.calls: list[ToolCallView] = []
        """Calls of tools, in order."""
        self.rounds: list[AnswerRound] = []
        """Target passes; empty for an answer loaded from the history."""
        self.stats: Stats | None = None
        self.finish: FinishReason | None = None
        """None while the answer grows."""
        self.prefilled: Prefilled | None = None
        """Prefill progress; None once the first token is there."""
        self.unfolded = False
        self.coloured = False

    @property
    def text(self) -> str:  # type: ignore[override]
        """Text of the answer, without the thought."""
        return self.document.text

    def take(self, events: Sequence[Event]) -> None:
        """Updates the answer with events of the session; `events` is not empty."""
        if generated := [event for event in events if isinstance(event, Generated)]:
            self.extend(*generated)
        last = events[-1]
        if isinstance(last, Prefilled):
            self.prefilled = last
            self.touch()
        elif isinstance(last, Finished):
            self.end(last.reason, last.stats)

    def extend(self, *events: Generated) -> None:
        """Appends the pieces of one or more passes."""
        self.prefilled = None
        self.rounds += map(AnswerRound.of, events)
        pieces = [piece for event in events for piece in event.pieces]
        thought = [piece.text for piece in pieces if piece.channel is Channel.THOUGHT]
        self.thought += show_controls("".join(thought))
        self.thought_tokens += len(thought)
        if more := "".join(p.text for p in pieces if p.channel is Channel.ANSWER):
            self.document.append(show_controls(more))
        self.touch()

    def show_call(self, call: str, result: str | None) -> None:
        """Shows a call, or the result of the last one; `result` is None while it runs."""
        running = self.calls and self.calls[-1].result is None and self.calls[-1].call == call
        if running:
            self.calls[-1].result = result
        else:
            self.calls.append(ToolCallView(call, result))
        self.touch()

    def end(self, reason: FinishReason, stats: Stats | None) -> None:
        """Ends the answer."""
        self.finish, self.stats, self.prefilled = reason, stats, None
        self.document.finish()
        self.touch()

    def reopen(self) -> None:
        """Makes a finished answer grow again, to resume it."""
        self.finish = self.stats = None
        text, self.document = self.document.text, MarkdownDocument()
        self.document.append(text)
        self.touch()

    def _render(self, brush: Brush, width: int) -> list[Line]:
        inner = width - INDENT
        lines = self._thought_lines(brush, inner) if self.thought else []
        if self.calls:
            lines += [*tool_lines(self.calls, brush, inner, unfolded=self.unfolded), []]
        if self.coloured and self.rounds:
            lines += self._token_lines(Channel.ANSWER, brush, inner)
            lines += [[], *_wrapped(_legend(brush), inner, Segment("   "))]
        else:
            lines += self.document.lines(brush, inner)
        if self.finish:
            footer = _wrapped(self._footer(brush), inner, Segment(" · ", brush.muted))
            lines += [[], *footer] if lines else footer
        elif not lines:
            lines = [[Segment(self._progress(), brush.muted)]]
        return [[Segment("  "), *line] for line in lines]

    def _progress(self) -> str:
        if self.prefilled and self.prefilled.done < self.prefilled.total:
            return f"prefill {self.prefilled.done:,} of {count(self.prefilled.total, 'token')}"
        return "…"

    def _thought_lines(self, brush: Brush, width: int) -> list[Line]:
        writing = not self.document.text and self.finish is None
        label = f"{'▾' if self.unfolded else '▸'} {'thinking' if writing else 'thought'}"
        if self.thought_tokens:
            label += f" · {count(self.thought_tokens, 'token')}"
        lines: list[Line] = [[Segment(label, brush.muted)]]
        if self.unfolded:
            bar = Segment("│ ", brush.rule)
            if self.coloured and self.rounds:
                inner = self._token_lines(Channel.THOUGHT, brush, width - 2)
            else:
                text = Text(self.thought.strip(), style=brush.muted, overflow="fold")
                inner = brush.lines(text, width - 2)
            lines += [[bar, *line] for line in inner]
        return [*lines, []] if self.document.text else lines

    def _token_lines(self, channel: Channel, brush: Brush, width: int) -> list[Line]:
        text = Text(overflow="fold")
        for answer_round in self.rounds:
            for token, origin, corrects in answer_round.tokens(channel):
                style = brush.corrected if corrects else brush.origins[origin]
                text.append(show_controls(token), style)
        return brush.lines(text, width)

    def _footer(self, brush: Brush) -> list[Segment]:
        parts = [Segment(text, brush.muted) for text in summary(self.stats)] if self.stats else []
        if self.finish in _ENDINGS:
            parts.insert(0, Segment(_ENDINGS[self.finish], brush.warning))
        return parts


def summary(stats: Stats) -> list[str]:
    """Formats the statistics under an answer, the most important first; omits unmeasured ones."""
    parts = []
    if stats.decode_s > 0:
        parts.append(f"decode {rate(stats.decode_tokens_per_s)} tok/s")
    if stats.drafted:
        parts.append(f"acceptance {percent(stats.acceptance_rate)}")
        parts.append(f"{stats.tokens_per_pass:.2f} tokens/pass")
    if stats.drafting_note:
        parts.append(f"drafting on: {stats.drafting_note}")
    if stats.ttft_s > 0:
        parts.append(f"time to first token {duration(stats.ttft_s)}")
    return [*parts, count(stats.completion_tokens, "token")]


def _legend(brush: Brush) -> list[Segment]:
    return [
        Segment("■ accepted", brush.origins[Origin.DRAFT]),
        Segment("■ target", brush.origins[Origin.TARGET]),
        Segment("■ corrected", brush.corrected),
        Segment("■ prefill", brush.origins[Origin.PREFILL]),
    ]


def _wrapped(parts: list[Segment], width: int, separator: Segment) -> list[Line]:
    """Breaks lines between parts only, so that no number is separated from its unit."""
    lines: list[Line] = [[]]
    used = 0
    for part in parts:
        if lines[-1] and used + separator.cell_length + part.cell_length > width:
            lines.append([])
            used = 0
        if lines[-1]:
            lines[-1].append(separator)
            used += separator.cell_length
        lines[-1].append(part)
        used += part.cell_length
    return lines
