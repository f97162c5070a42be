"""The throughput, beside the conversation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from localmtp.engine.events import Prefilled
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.recent import RecentSpeed
from localmtp.tui.text import bar, duration, rate, share

WIDTH = 30
"""Cells inside the panel; the style sheet adds the margins."""

_LEVELS = " ▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], width: int) -> tuple[str, str]:
    """The last `width` values as two rows of columns over a floor of 0."""
    values = list(values)[-width:]
    top = max(values, default=0) or 1.0
    levels = [max(1, round(16 * value / top)) for value in values]
    upper = "".join(_LEVELS[max(0, level - 8)] for level in levels)
    lower = "".join(_LEVELS[min(8, level)] for level in levels)
    return upper.rjust(width), lower.rjust(width)


class Statistics(VerticalScroll, can_focus=False):
    """What the last or running answer cost; told anew several times a second."""

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._brush = brush
        self._speed = RecentSpeed()
        self._shown: tuple[Stats | None, bool, Prefilled | None] = (None, False, None)
        self._drafting = ""
        self._now = 0.0
        self._plain_speed: float | None = None

    def compose(self) -> ComposeResult:
        """One text: its lines change, its layout hardly ever."""
        yield Static()

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
        self._draw()

    def forget(self) -> None:
        """Another model answers: what was measured does not hold for it."""
        self._speed, self._plain_speed, self._now = RecentSpeed(), None, 0.0

    def compare(self, plain_speed: float | None) -> None:
        """Shows speeds also as multiples of one without drafting, measured by a race.

        Args:
            plain_speed: in tokens/s; None where it was not measured.
        """
        self._plain_speed = plain_speed
        self._draw()

    def repaint(self, brush: Brush) -> None:
        """In other colours."""
        self._brush = brush
        self._draw()

    def _draw(self) -> None:
        stats, writing, prefilled = self._shown
        brush = self._brush
        sections = (
            self._headline(stats),
            _drafting(brush, stats, self._drafting, self._plain_speed),
            _by_position(brush, stats),
            _prompt(brush, stats, prefilled if writing else None),
            _time(brush, stats.time) if stats and stats.time.verify_s > 0 else None,
            _context(brush, stats),
        )
        self.query_one(Static).update(Text("\n\n").join(filter(None, sections)))

    def _headline(self, stats: Stats | None) -> Text:
        measured = stats is not None and stats.decode_s > 0
        speed = rate(self._now) if measured else "–"
        average = f"avg {rate(stats.decode_tokens_per_s)}" if stats and measured else ""
        pad = " " * max(1, WIDTH - len(speed) - len(" tok/s") - len(average))
        brush, (upper, lower) = self._brush, spark(self._speed.history, WIDTH)
        return Text.assemble(
            (speed, brush.strong),
            (f" tok/s{pad}{average}\n\n", brush.muted),
            (f"{upper}\n{lower}", brush.draft),
        )


def _row(brush: Brush, label: str, value: str) -> Text:
    gap = " " * max(1, WIDTH - len(label) - len(value))
    return Text.assemble((label, brush.muted), gap, (value, brush.plain))


def _drafting(brush: Brush, stats: Stats | None, drafting: str, plain_speed: float | None) -> Text:
    state, _, reason = drafting.partition(": ")
    style = brush.draft if state == "on" else brush.warning
    gap = " " * (WIDTH - len("drafting") - len(state))
    lines = [Text.assemble(("drafting", brush.strong), gap, (state, style))]
    if reason:
        lines.append(Text(reason, brush.warning))
    if stats and stats.drafted:
        lines.append(_row(brush, "accepted", share(stats.acceptance_rate)))
        lines.append(_row(brush, "tokens per pass", f"{stats.tokens_per_pass:.2f}"))
        lines.append(_row(brush, "draft length", f"{stats.draft_length_mean:.1f}"))
    if stats and stats.decode_s > 0 and plain_speed:
        times = f"{stats.decode_tokens_per_s / plain_speed:.2f} times"
        lines.append(_row(brush, "against the race, off", times))
    return Text("\n").join(lines)


def _by_position(brush: Brush, stats: Stats | None) -> Text | None:
    if not stats or not stats.drafted:
        return None
    width = WIDTH - 9
    lines = [Text("accepted by position", brush.strong)]
    for position, accepted in enumerate(stats.acceptance_by_position, 1):
        line = bar(accepted, width)
        lines.append(
            Text.assemble(
                (f"{position:>2} ", brush.muted),
                (line, brush.draft),
                ("─" * (width - len(line)), brush.rule),
                (share(accepted).rjust(6), brush.plain),
            )
        )
    return Text("\n").join(lines)


def _prompt(brush: Brush, stats: Stats | None, prefilled: Prefilled | None) -> Text | None:
    if prefilled and prefilled.done < prefilled.total:
        part = prefilled.done / prefilled.total
        line = bar(part, WIDTH - 6)
        return Text.assemble(
            ("reading the prompt\n", brush.strong),
            (line, brush.prefill),
            ("─" * (WIDTH - 6 - len(line)), brush.rule),
            (share(part).rjust(6), brush.plain),
        )
    if not stats or stats.ttft_s <= 0:
        return None
    lines = [Text("prompt", brush.strong), _row(brush, "first token", duration(stats.ttft_s))]
    if stats.prefill_tokens_per_s:
        lines.append(_row(brush, "read at", f"{rate(stats.prefill_tokens_per_s)} tok/s"))
    return Text("\n").join(lines)


def _time(brush: Brush, spent: TimeSpent) -> Text:
    parts = (
        ("draft", spent.draft_s, brush.draft),
        ("verify", spent.verify_s, brush.accent),
        ("sample", spent.sample_s, brush.prefill),
        ("other", spent.other_s, brush.muted),
    )
    total = sum(seconds for _, seconds, _ in parts) or 1.0
    text, drawn = Text.assemble(("time\n", brush.strong)), 0.0
    for _, seconds, style in parts:
        cells = round(WIDTH * (drawn + seconds) / total) - round(WIDTH * drawn / total)
        text.append("━" * cells, style)
        drawn += seconds
    for number, (name, seconds, style) in enumerate(parts):
        text.append("\n" if number % 2 == 0 else " " * 4)
        text.append("■ ", style).append(name.ljust(6), brush.muted)
        text.append(share(seconds / total).rjust(5), brush.plain)
    return text


def _context(brush: Brush, stats: Stats | None) -> Text | None:
    if not stats or not stats.context_size:
        return None
    used = f"{stats.context_used:,} of {stats.context_size:,}"
    gap = " " * max(1, WIDTH - len("context") - len(used))
    line = bar(stats.context_used / stats.context_size, WIDTH)
    return Text.assemble(
        ("context", brush.strong),
        gap,
        (f"{used}\n", brush.plain),
        (line, brush.accent),
        ("─" * (WIDTH - len(line)), brush.rule),
    )
