"""The throughput, beside the conversation."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Sparkline, Static

from localmtp.engine.events import Prefilled
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.recent import RecentSpeed
from localmtp.tui.text import duration, rate, share

WIDTH = 30
"""Cells inside the panel; the style sheet adds the margins."""

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(part: float, width: int) -> str:
    """A share of 0..1 as a bar, to an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, part)) * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(width)


class Statistics(VerticalScroll, can_focus=False):
    """What the last or running answer cost; told anew several times a second."""

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._speed = RecentSpeed()
        self._shown: tuple[Stats | None, bool, Prefilled | None] = (None, False, None)
        self._drafting = ""
        self._now = 0.0

    def compose(self) -> ComposeResult:
        """The speed, its recent past, everything else."""
        yield Static(id="speed")
        yield Sparkline([], id="spark")
        yield Static(id="figures")

    def on_mount(self) -> None:
        """Shows that nothing was measured yet."""
        self.show(None, self._drafting)

    def show(
        self,
        stats: Stats | None,
        drafting: str,
        *,
        writing: bool = False,
        prefilled: Prefilled | None = None,
    ) -> None:
        """Shows numbers; None where nothing was measured.

        Args:
            stats: of the running answer, or of the last.
            drafting: `on`, or `off: REASON`; empty while loading.
            writing: whether an answer is being written.
            prefilled: how far the prompt is, while it is read.
        """
        self._shown, self._drafting = (stats, writing, prefilled), drafting
        if stats:
            now = self._speed.add(stats)
            self._now = now if writing else stats.decode_tokens_per_s
            self.query_one(Sparkline).data = list(self._speed.history)[-2 * WIDTH :]
        self._draw()

    def repaint(self, brush: Brush) -> None:
        """In other colours."""
        self._brush = brush
        self._draw()

    def _draw(self) -> None:
        stats, writing, prefilled = self._shown
        brush = self._brush
        self.query_one("#speed", Static).update(self._headline(stats))
        figures = Text()
        for section in (
            _drafting(brush, stats, self._drafting),
            _by_position(brush, stats),
            _prompt(brush, stats, prefilled if writing else None),
            _time(brush, stats.time) if stats and stats.decode_s > 0 else None,
            _context(brush, stats),
        ):
            if section:
                figures.append(section).append("\n\n")
        figures.rstrip()
        self.query_one("#figures", Static).update(figures)

    def _headline(self, stats: Stats | None) -> Text:
        measured = stats is not None and stats.decode_s > 0
        speed = rate(self._now) if measured else "–"
        average = f"avg {rate(stats.decode_tokens_per_s)}" if stats and measured else ""
        text = Text(speed, self._brush.strong).append(" tok/s", self._brush.muted)
        pad = max(1, WIDTH - len(speed) - len(" tok/s") - len(average))
        return text.append(" " * pad + average, self._brush.muted)


def _row(brush: Brush, label: str, value: str) -> Text:
    gap = " " * max(1, WIDTH - len(label) - len(value))
    return Text(label, brush.muted).append(gap + value, brush.plain)


def _drafting(brush: Brush, stats: Stats | None, drafting: str) -> Text:
    state, _, reason = drafting.partition(": ")
    style = brush.draft if state == "on" else brush.warning
    gap = " " * (WIDTH - len("drafting") - len(state))
    text = Text("drafting", brush.strong).append(gap).append(state or " ", style)
    if reason:
        text.append(f"\n{reason}", brush.warning)
    if stats and stats.drafted:
        text.append("\n").append(_row(brush, "accepted", share(stats.acceptance_rate)))
        text.append("\n").append(_row(brush, "tokens per pass", f"{stats.tokens_per_pass:.2f}"))
        text.append("\n").append(_row(brush, "draft length", f"{stats.draft_length_mean:.1f}"))
    return text


def _by_position(brush: Brush, stats: Stats | None) -> Text | None:
    if not stats or not stats.drafted:
        return None
    width = WIDTH - 9
    lines = [Text("accepted by position", brush.muted)]
    for position, accepted in enumerate(stats.acceptance_by_position, 1):
        line = Text(f"{position:>2} ", brush.muted).append(bar(accepted, width), brush.draft)
        lines.append(line.append(share(accepted).rjust(6), brush.plain))
    return Text("\n").join(lines)


def _prompt(brush: Brush, stats: Stats | None, prefilled: Prefilled | None) -> Text | None:
    if prefilled and prefilled.done < prefilled.total:
        part = prefilled.done / prefilled.total
        line = Text(bar(part, WIDTH - 6), brush.prefill).append(share(part).rjust(6), brush.plain)
        return Text("reading the prompt", brush.strong).append("\n").append(line)
    if not stats or stats.ttft_s <= 0:
        return None
    text = _row(brush, "first token", duration(stats.ttft_s))
    if stats.prefill_tokens_per_s:
        speed = f"{rate(stats.prefill_tokens_per_s)} tok/s"
        text.append("\n").append(_row(brush, "prefill", speed))
    return text


def _time(brush: Brush, spent: TimeSpent) -> Text:
    parts = (
        ("draft", spent.draft_s, brush.draft),
        ("verify", spent.verify_s, brush.accent),
        ("sample", spent.sample_s, brush.prefill),
        ("other", spent.other_s, brush.muted),
    )
    total = sum(seconds for _, seconds, _ in parts) or 1.0
    text, drawn = Text("time\n", brush.strong), 0.0
    for _, seconds, style in parts:
        cells = round(WIDTH * (drawn + seconds) / total) - round(WIDTH * drawn / total)
        text.append("█" * cells, style)
        drawn += seconds
    for number, (name, seconds, style) in enumerate(parts):
        text.append("\n" if number % 2 == 0 else " " * 3)
        text.append("■ ", style).append(name.ljust(6), brush.muted)
        text.append(share(seconds / total).rjust(5), brush.plain)
    return text


def _context(brush: Brush, stats: Stats | None) -> Text | None:
    if not stats or not stats.context_size:
        return None
    used = f"{stats.context_used:,} / {stats.context_size:,}"
    gap = " " * max(1, WIDTH - len("context") - len(used))
    part = stats.context_used / stats.context_size
    filled = max(1, round(WIDTH * part)) if stats.context_used else 0
    text = Text("context", brush.strong).append(gap + used, brush.plain).append("\n")
    text.append("█" * filled, brush.accent)
    return text.append("█" * (WIDTH - filled), brush.rule)
