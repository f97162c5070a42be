"""The throughput as text: one function for each section of the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from localmtp.engine.events import Prefilled
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.drawing.text import bar, duration, rate, share, size

WIDTH = 30
"""Cells inside the panel; the style sheet adds the margins."""

POSITIONS = 7
"""Columns of the chart by position: later ones are seldom reached."""

LENGTHS = 12
PASSES_PER_COLUMN = 8
"""Of the line of draft lengths, so that it shows the last 96 passes: some seconds."""

_LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Figures:
    """All that the panel shows; empty or None where nothing was measured."""

    stats: Stats | None = None
    """Of the running answer, or of the last."""
    drafting: str = ""
    """`on`, or `off: REASON`; empty while loading."""
    writing: bool = False
    prefilled: Prefilled | None = None
    """How far the prompt is, while it is read."""
    plain_speed: float = 0.0
    """Tokens per second of passes without a draft."""
    lengths: Sequence[int] = ()
    """Tokens drafted in each pass of the answer."""
    device: str = ""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes by what takes them."""


def spark(values: Sequence[float], width: int) -> tuple[str, str]:
    """The last `width` values as two rows of columns over a floor of 0."""
    values = list(values)[-width:]
    top = max(values, default=0) or 1.0
    levels = [max(1, round(16 * value / top)) for value in values]
    upper = "".join(_LEVELS[max(0, level - 8)] for level in levels)
    lower = "".join(_LEVELS[min(8, level)] for level in levels)
    return upper.rjust(width), lower.rjust(width)


def headline(brush: Brush, stats: Stats | None, now: float, history: Sequence[float]) -> Text:
    """The speed now, on average, and over time.

    Args:
        brush: for the colours.
        stats: of the answer.
        now: tokens per second.
        history: the same, over time.
    """
    measured = stats is not None and stats.decode_s > 0
    speed = rate(now) if measured else "–"
    average = f"avg {rate(stats.decode_tokens_per_s)}" if stats and measured else ""
    pad = " " * max(1, WIDTH - len(speed) - len(" tok/s") - len(average))
    upper, lower = spark(history, WIDTH)
    return Text.assemble(
        (speed, brush.strong),
        (f" tok/s{pad}{average}\n", brush.muted),
        (f"{upper}\n{lower}", brush.draft),
    )


def drafting(brush: Brush, figures: Figures, race_speed: float) -> Text:
    """Whether drafts are made and why not, and what they bring.

    Args:
        brush: for the colours.
        figures: of the answer.
        race_speed: tokens per second without drafting in the last race; 0 without one.
    """
    stats = figures.stats
    state, _, reason = figures.drafting.partition(": ")
    style = brush.draft if state == "on" else brush.warning
    gap = " " * (WIDTH - len("drafting") - len(state))
    lines = [Text.assemble(("drafting", brush.strong), gap, (state, style))]
    if reason:
        lines.append(Text(reason, brush.warning))
    if stats and stats.drafted:
        lines.append(_row(brush, "accepted", share(stats.acceptance_rate)))
        lines.append(_row(brush, "tokens per pass", f"{stats.tokens_per_pass:.2f}"))
        mean = f"{stats.draft_length_mean:.1f}"
        gap = " " * (WIDTH - len("draft length ") - LENGTHS - len(mean))
        over_time = (_lengths(figures.lengths), brush.draft)
        lines.append(
            Text.assemble(("draft length ", brush.muted), over_time, (gap + mean, brush.plain))
        )
    if stats and stats.drafted and stats.decode_s > 0 and (race_speed or figures.plain_speed):
        plain = race_speed or _plain(stats, figures.plain_speed)
        times = f"{stats.decode_tokens_per_s / plain:.2f} times"
        lines.append(_row(brush, "against no drafting", times))
    return Text("\n").join(lines)


def by_position(brush: Brush, stats: Stats | None) -> Text | None:
    """The share accepted at each position of a draft, from the left."""
    if not stats or not stats.drafted:
        return None
    shares = stats.acceptance_by_position[:POSITIONS]
    columns = " ".join(_LEVELS[max(1, round(8 * part))] * 3 for part in shares)
    numbers = " ".join(f"{100 * part:3.0f}" for part in shares)
    return Text.assemble(
        ("accepted by position, %\n", brush.strong),
        (f"{columns}\n", brush.draft),
        (numbers, brush.plain),
    )


def prompt(brush: Brush, stats: Stats | None, prefilled: Prefilled | None) -> Text | None:
    """How far the prompt is read, or how fast it was."""
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
    lines = [_row(brush, "first token after", duration(stats.ttft_s))]
    if stats.prefill_tokens_per_s:
        lines.append(_row(brush, "prompt read at", f"{rate(stats.prefill_tokens_per_s)} tok/s"))
    return Text("\n").join(lines)


def time(brush: Brush, spent: TimeSpent) -> Text:
    """Where the time goes, as one line in four colours."""
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


def context(brush: Brush, stats: Stats | None) -> Text | None:
    """How full the KV cache is."""
    if not stats or not stats.context_size:
        return None
    used = f" {stats.context_used:,} of {stats.context_size:,}"
    width = max(0, WIDTH - len("context ") - len(used))
    line = bar(stats.context_used / stats.context_size, width)
    return Text.assemble(
        ("context ", brush.strong),
        (line, brush.accent),
        ("─" * (width - len(line)), brush.rule),
        (used, brush.plain),
    )


def memory(brush: Brush, figures: Figures) -> Text | None:
    """What the pair takes, and what computes."""
    if not figures.memory:
        return None
    total = size(sum(figures.memory.values()))
    gap = " " * max(1, WIDTH - len("memory") - len(total))
    text = Text.assemble(("memory", brush.strong), gap, (total, brush.plain))
    for number, (name, nbytes) in enumerate(figures.memory.items()):
        taken = size(nbytes)
        between = " " * max(1, WIDTH // 2 - 1 - len(name) - len(taken))
        text.append("\n" if number % 2 == 0 else "  ")
        text.append(f"{name}{between}", brush.muted).append(taken, brush.plain)
    return text.append(f"\n{_device(figures)[:WIDTH]}", brush.muted)


def _device(figures: Figures) -> str:
    stats = figures.stats
    if stats and stats.threads < stats.most_threads:
        return f"CPU busy: {stats.threads} of {stats.most_threads} threads"
    return figures.device


def _plain(stats: Stats, passes_per_s: float) -> float:
    """Tokens per second without drafting: a bare pass, and sampling as it is now."""
    besides = (stats.time.sample_s + stats.time.other_s) / stats.target_passes
    return 1.0 / (1.0 / passes_per_s + besides)


def _lengths(lengths: Sequence[int]) -> str:
    """Draft lengths over time, one row high: the mean of some passes in each column."""
    recent = lengths[-LENGTHS * PASSES_PER_COLUMN :]
    groups = [recent[i : i + PASSES_PER_COLUMN] for i in range(0, len(recent), PASSES_PER_COLUMN)]
    means = [sum(group) / len(group) for group in groups]
    top = max(means, default=0) or 1.0
    return "".join(_LEVELS[max(1, round(8 * mean / top))] for mean in means).ljust(LENGTHS)


def _row(brush: Brush, label: str, value: str) -> Text:
    gap = " " * max(1, WIDTH - len(label) - len(value))
    return Text.assemble((label, brush.muted), gap, (value, brush.plain))
