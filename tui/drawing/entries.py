"""What stands in a conversation, and how each of it looks."""

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
from localmtp.tui.drawing.brush import Brush, Line
from localmtp.tui.drawing.document import Document
from localmtp.tui.drawing.rounds import Round
from localmtp.tui.drawing.text import duration, plural, rate, share, visible

INDENT = 2
"""Cells left of every text, where the mark of the user and of the cursor stands."""

_KEYS = 8
"""Cells for the keys that a beginning needs."""

_ENDINGS = {
    FinishReason.CANCELLED: "stopped",
    FinishReason.LENGTH: "cut: no tokens left, /continue goes on",
    FinishReason.LOST: "cut: the model was lost, /continue goes on",
}


class Entry:
    """Something with lines; `touch` it when it changed."""

    text = ""
    """What copying it copies."""

    def __init__(self) -> None:
        self._drawn: list[Line] = []
        self._drawn_for: tuple[Brush, int] | None = None

    def touch(self) -> None:
        """Forget what was drawn."""
        self._drawn_for = None

    def is_drawn(self, brush: Brush, width: int) -> bool:
        """Whether `lines` costs nothing."""
        return self._drawn_for == (brush, width)

    def lines(self, brush: Brush, width: int) -> list[Line]:
        """In `width` cells, with an empty line at the end."""
        if not self.is_drawn(brush, width):
            self._drawn = [*self._draw(brush, width), []]
            self._drawn_for = (brush, width)
        return self._drawn

    def guess(self, width: int) -> int:
        """How many lines it will about have, without drawing."""
        return 3 + len(self.text) // max(1, width) + self.text.count("\n")

    def _draw(self, brush: Brush, width: int) -> list[Line]:
        raise NotImplementedError


class UserEntry(Entry):
    """What the user wrote."""

    def __init__(self, text: str, *, waiting: bool = False) -> None:
        super().__init__()
        self.text = text
        self.waiting = waiting

    def _draw(self, brush: Brush, width: int) -> list[Line]:
        style = brush.muted if self.waiting else brush.plain
        bar = Segment("▎ ", brush.muted if self.waiting else brush.accent)
        lines = brush.lines(Text(visible(self.text), style=style, overflow="fold"), width - INDENT)
        if self.waiting:
            lines.append([Segment("waits its turn", brush.muted)])
        return [[bar, *line] for line in lines]


class WelcomeEntry(Entry):
    """What an empty conversation says."""

    def __init__(self, model: str, place: str) -> None:
        super().__init__()
        self.model = model
        self.place = place

    def _draw(self, brush: Brush, width: int) -> list[Line]:
        said = Text(f"{self.model} answers {self.place}.\n\n", brush.muted)
        if self.model == "nano":
            said = Text.assemble(
                ("nano is a toy: it shows the drafting, not wisdom.\n", brush.muted),
                ("For real answers choose another model: ", brush.muted),
                ("Ctrl+O", brush.accent),
                ("\n\n", brush.muted),
            )
        lines = [*brush.lines(said, width - INDENT), []]
        for key, what in (
            ("Enter", "sends; Ctrl+J breaks the line"),
            ("/", "lists the commands; F1 explains everything"),
            ("F3", "colours each token of an answer by how it came"),
            ("/race", "answers twice, without and with drafting"),
        ):
            lead = Segment(f"{key:<{_KEYS}}", brush.accent)
            for line in brush.lines(Text(what, brush.muted), width - INDENT - _KEYS):
                lines.append([lead, *line])
                lead = Segment(" " * _KEYS)
        return [[Segment("  "), *line] for line in lines]


class NoticeEntry(Entry):
    """Something the program says, in the conversation because it belongs to that place."""

    def __init__(self, text: str, hint: str = "", *, error: bool = False) -> None:
        super().__init__()
        self.text = text
        self.hint = hint
        self.is_error = error

    def _draw(self, brush: Brush, width: int) -> list[Line]:
        style = brush.error if self.is_error else brush.muted
        said = Text(visible(self.text), style=style, overflow="fold")
        if self.hint:
            said.append(f"\n{visible(self.hint)}", brush.muted)
        mark = Segment("✕ " if self.is_error else "· ", style)
        lines = brush.lines(said, width - INDENT)
        return [[mark if not y else Segment("  "), *line] for y, line in enumerate(lines)]


class AnswerEntry(Entry):
    """What the model wrote, and is writing."""

    def __init__(self, text: str = "", thought: str = "") -> None:
        super().__init__()
        self.document = Document(visible(text))
        self.thought = visible(thought)
        self.thought_tokens = 0
        self.rounds: list[Round] = []
        self.stats: Stats | None = None
        self.finish: FinishReason | None = None
        self.prefilled: Prefilled | None = None
        self.unfolded = False
        self.coloured = False

    @property
    def text(self) -> str:  # type: ignore[override]
        """The answer as the model wrote it, without the thought."""
        return self.document.text

    def take(self, events: Sequence[Event]) -> None:
        """Grows with what came from the session."""
        if generated := [event for event in events if isinstance(event, Generated)]:
            self.extend(*generated)
        last = events[-1]
        if isinstance(last, Prefilled):
            self.prefilled = last
            self.touch()
        elif isinstance(last, Finished):
            self.end(last.reason, last.stats)

    def extend(self, *events: Generated) -> None:
        """Adds what passes produced; several at once cost little more than one."""
        self.rounds += map(Round.of, events)
        pieces = [piece for event in events for piece in event.pieces]
        thought = [piece.text for piece in pieces if piece.channel is Channel.THOUGHT]
        self.thought += visible("".join(thought))
        self.thought_tokens += len(thought)
        if more := "".join(p.text for p in pieces if p.channel is Channel.ANSWER):
            self.document.append(visible(more))
        self.touch()

    def end(self, reason: FinishReason, stats: Stats | None) -> None:
        """The answer is as long as it will be."""
        self.finish, self.stats, self.prefilled = reason, stats, None
        self.document.finish()
        self.touch()

    def reopen(self) -> None:
        """The answer goes on where it was cut."""
        self.finish = self.stats = None
        text, self.document = self.document.text, Document()
        self.document.append(text)
        self.touch()

    def _draw(self, brush: Brush, width: int) -> list[Line]:
        inner = width - INDENT
        lines = self._thought(brush, inner) if self.thought else []
        if self.coloured and self.rounds:
            lines += self._tokens(Channel.ANSWER, brush, inner)
            lines += [[], self._legend(brush, width)]
        else:
            lines += self.document.lines(brush, inner)
        if self.finish:
            lines += [[], *self._footer(brush, inner)] if lines else self._footer(brush, inner)
        elif not lines:
            lines = [[Segment(self._awaited(), brush.muted)]]
        return [[Segment("  "), *line] for line in lines]

    def _awaited(self) -> str:
        if self.prefilled and self.prefilled.done < self.prefilled.total:
            return f"reading {self.prefilled.done:,} of {plural(self.prefilled.total, 'token')}"
        return "…"

    def _thought(self, brush: Brush, width: int) -> list[Line]:
        writing = not self.document.text and self.finish is None
        label = f"{'▾' if self.unfolded else '▸'} {'thinking' if writing else 'thought'}"
        if self.thought_tokens:
            label += f" · {plural(self.thought_tokens, 'token')}"
        lines: list[Line] = [[Segment(label, brush.muted)]]
        if self.unfolded:
            bar = Segment("│ ", brush.rule)
            if self.coloured and self.rounds:
                inner = self._tokens(Channel.THOUGHT, brush, width - 2)
            else:
                inner = brush.lines(
                    Text(self.thought.strip(), style=brush.muted, overflow="fold"), width - 2
                )
            lines += [[bar, *line] for line in inner]
        return [*lines, []] if self.document.text else lines

    def _tokens(self, channel: Channel, brush: Brush, width: int) -> list[Line]:
        text = Text(overflow="fold")
        for played in self.rounds:
            for piece, origin, corrects in played.marked(channel):
                text.append(visible(piece), brush.corrected if corrects else brush.origins[origin])
        return brush.lines(text, width)

    def _legend(self, brush: Brush, width: int) -> Line:
        parts = (
            ("accepted draft", brush.origins[Origin.DRAFT]),
            ("target", brush.origins[Origin.TARGET]),
            ("corrected", brush.corrected),
            ("first token", brush.origins[Origin.PREFILL]),
        )
        words = sum(len(f"■ {name}") for name, _ in parts)
        gap = Segment(" " * max(1, min(3, (width - words) // (len(parts) - 1))))
        legend = [s for name, style in parts for s in (Segment(f"■ {name}", style), gap)]
        return legend[:-1]

    def _footer(self, brush: Brush, width: int) -> list[Line]:
        parts = [(figure, brush.muted) for figure in (_figures(self.stats) if self.stats else ())]
        if self.finish in _ENDINGS:
            parts.insert(0, (_ENDINGS[self.finish], brush.warning))
        lines: list[Line] = [[]]
        for text, style in parts:
            # A figure is not torn from its unit.
            if lines[-1] and sum(s.cell_length for s in lines[-1]) + len(text) + 3 > width:
                lines.append([])
            separator = [Segment(" · ", brush.muted)] if lines[-1] else []
            lines[-1] += [*separator, Segment(text, style)]
        return lines


def _figures(stats: Stats) -> list[str]:
    """The numbers under an answer; what was not measured is left out."""
    figures = []
    if stats.decode_s > 0:
        figures.append(f"{rate(stats.decode_tokens_per_s)} tok/s")
    if stats.drafted:
        figures.append(f"{share(stats.acceptance_rate)} accepted")
        figures.append(f"{stats.tokens_per_pass:.2f} per pass")
    if stats.ttft_s > 0:
        figures.append(f"first token {duration(stats.ttft_s)}")
    return [*figures, plural(stats.completion_tokens, "token")]
