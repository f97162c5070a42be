"""The statistics panel as text: one function per section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from localmtp.engine.events import Prefilled
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.formatting import bar, duration, percent, rate, show_controls, size

WIDTH = 30
"""Cells inside the panel; the style sheet adds the margins."""

CHART_POSITIONS = 7
"""Columns of the chart by draft position: later positions are rarely reached."""

LENGTHS_WIDTH = 12
PASSES_PER_COLUMN = 8
"""Passes per column of the draft lengths, which then cover the last 96 passes: some seconds."""

MIN_DECODE_S = 0.25
"""Decode time from which a speedup is shown."""

_LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class PanelData:
    """Everything that the panel shows; empty, 0 or None where nothing was measured."""

    stats: Stats | None = None
    """Statistics of the running or the last answer."""
    drafting: str = ""
    """`on`, or `off: REASON`; empty while the model is loading."""
    writing: bool = False
    prefilled: Prefilled | None = None
    """Prefill progress of the running answer."""
    plain_tokens_per_s: float = 0.0
    """Decode speed of passes without a draft."""
    lengths: Sequence[int] = ()
    """Draft length of each pass."""
    device: str = ""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes by use."""


def sparkline(values: Sequence[float], width: int) -> tuple[str, str]:
    """Draws the last `width` values as columns, two rows high, from 0."""
    values = list(values)[-width:]
    top = max(values, default=0) or 1.0
    levels = [max(1, round(16 * value / top)) for value in values]
    upper = "".join(_LEVELS[max(0, level - 8)] for level in levels)
    lower = "".join(_LEVELS[min(8, level)] for level in levels)
    return upper.rjust(width), lower.rjust(width)


def decode_section(
    brush: Brush, stats: Stats | None, current: float, history: Sequence[float]
) -> Text:
    """Renders the decode speed: current, mean, and over time.

    Args:
        brush: for the colours.
        stats: of the answer.
        current: tokens/s over the last seconds.
        history: the same, over time.
    """
    measured = stats is not None and stats.decode_s > 0
    speed = rate(current) if measured else "–"
    mean = f"mean {rate(stats.decode_tokens_per_s)}" if stats and measured else ""
    pad = " " * max(1, WIDTH - len("decode ") - len(speed) - len(" tok/s") - len(mean))
    upper, lower = sparkline(history, WIDTH)
    return Text.assemble(
        ("decode ", brush.muted),
        (speed, brush.strong),
        (f" tok/s{pad}{mean}\n", brush.muted),
        (f"{upper}\n{lower}", brush.draft),
    )


def drafting_section(brush: Brush, data: PanelData, race_tokens_per_s: float) -> Text:
    """Renders whether drafting is on, and what it gains.

    Args:
        brush: for the colours.
        data: of the answer.
        race_tokens_per_s: decode speed with drafting off in the last race; 0 without one.
    """
    stats = data.stats
    state, _, reason = data.drafting.partition(": ")
    style = brush.draft if state == "on" else brush.warning
    state = state or "–"
    gap = " " * (WIDTH - len("drafting") - len(state))
    lines = [Text.assemble(("drafting", brush.strong), gap, (state, style))]
    if reason:
        lines.append(Text(show_controls(reason), brush.warning))
    if stats and stats.drafting_note:
        lines.append(Text(stats.drafting_note, brush.muted))
    if stats and stats.drafted:
        lines.append(_row(brush, "acceptance", percent(stats.acceptance_rate)))
        lines.append(_row(brush, "tokens/pass", f"{stats.tokens_per_pass:.2f}"))
        mean = f"{stats.draft_length_mean:.1f}"
        gap = " " * (WIDTH - len("draft length ") - LENGTHS_WIDTH - len(mean))
        over_time = (_length_columns(data.lengths), brush.draft)
        lines.append(
            Text.assemble(("draft length ", brush.muted), over_time, (gap + mean, brush.plain))
        )
    if speedup := _speedup(data, race_tokens_per_s):
        lines.append(_row(brush, "speedup", f"{speedup:.2f}×"))
    return Text("\n").join(lines)


def position_section(brush: Brush, stats: Stats | None) -> Text | None:
    """Renders the acceptance rate at each draft position."""
    if not stats or not stats.drafted:
        return None
    rates = stats.acceptance_by_position[:CHART_POSITIONS]
    columns = " ".join(_LEVELS[max(1, round(8 * one))] * 3 for one in rates)
    numbers = " ".join(f"{100 * one:3.0f}" for one in rates)
    return Text.assemble(
        ("acceptance by position, %\n", brush.strong),
        (f"{columns}\n", brush.draft),
        (numbers, brush.plain),
    )


def prefill_section(brush: Brush, stats: Stats | None, prefilled: Prefilled | None) -> Text | None:
    """Renders the prefill progress, or the time to first token and the prefill speed."""
    if prefilled and prefilled.done < prefilled.total:
        fraction = prefilled.done / prefilled.total
        line = bar(fraction, WIDTH - 6)
        return Text.assemble(
            ("prefill\n", brush.strong),
            (line, brush.prefill),
            ("─" * (WIDTH - 6 - len(line)), brush.rule),
            (percent(fraction).rjust(6), brush.plain),
        )
    if not stats or stats.ttft_s <= 0:
        return None
    lines = [_row(brush, "time to first token", duration(stats.ttft_s))]
    if stats.encode_s > 0:
        lines.append(_row(brush, "of that, encoding", duration(stats.encode_s)))
    if stats.prefill_tokens_per_s:
        lines.append(_row(brush, "prompt", f"{rate(stats.prefill_tokens_per_s)} tok/s"))
    return Text("\n").join(lines)


def time_section(brush: Brush, spent: TimeSpent) -> Text:
    """Renders the parts of the decode time as one bar in four colours."""
    parts = (
        ("draft", spent.draft_s, brush.draft),
        ("verify", spent.verify_s, brush.accent),
        ("sample", spent.sample_s, brush.prefill),
        ("other", spent.other_s, brush.muted),
    )
    total = sum(seconds for _, seconds, _ in parts) or 1.0
    text, drawn = Text.assemble(("decode time\n", brush.strong)), 0.0
    for _, seconds, style in parts:
        cells = round(WIDTH * (drawn + seconds) / total) - round(WIDTH * drawn / total)
        text.append("━" * cells, style)
        drawn += seconds
    for number, (name, seconds, style) in enumerate(parts):
        text.append("\n" if number % 2 == 0 else " " * 4)
        text.append("■ ", style).append(name.ljust(6), brush.muted)
        text.append(percent(seconds / total).rjust(5), brush.plain)
    return text


def context_section(brush: Brush, stats: Stats | None) -> Text | None:
    """Renders the occupied and the available positions of the KV cache."""
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


def memory_section(brush: Brush, data: PanelData) -> Text | None:
    """Renders the memory in use, the device, and the share of its bandwidth that is reached."""
    if not data.memory:
        return None
    total = size(sum(data.memory.values()))
    gap = " " * max(1, WIDTH - len("memory") - len(total))
    text = Text.assemble(("memory", brush.strong), gap, (total, brush.plain))
    half = WIDTH // 2 - 1
    column = 0
    for name, nbytes in data.memory.items():
        formatted = size(nbytes)
        long = len(name) + 1 + len(formatted) > half  # has a line of its own
        between = " " * max(1, half - len(name) - len(formatted))
        text.append("  " if column == 1 and not long else "\n")
        text.append(f"{name}{between}", brush.muted).append(formatted, brush.plain)
        column = 0 if long else 1 - column
    text.append(f"\n{_device(data)[:WIDTH]}", brush.muted)
    share = data.stats.bandwidth_share if data.stats else 0.0
    if 0 < share <= 1:
        # Above 1, the weights are in a cache.
        text.append("\n").append(_row(brush, "memory bandwidth used", percent(share)))
    return text


def _device(data: PanelData) -> str:
    stats = data.stats
    if stats and stats.threads < stats.most_threads:
        return f"CPU busy: {stats.threads} of {stats.most_threads} threads"
    return show_controls(data.device)


def _speedup(data: PanelData, race_tokens_per_s: float) -> float | None:
    """Estimates the speedup of drafting; None if the answer is too short to tell.

    Also None above the tokens per pass, which no speedup can exceed: then the machine was busier
    when the speed without drafting was measured.
    """
    stats = data.stats
    if not stats or not stats.drafted or stats.decode_s < MIN_DECODE_S:
        return None
    plain = race_tokens_per_s or _plain_tokens_per_s(stats, data.plain_tokens_per_s)
    speedup = stats.decode_tokens_per_s / plain if plain else 0.0
    return speedup if 0 < speedup <= stats.tokens_per_pass else None


def _plain_tokens_per_s(stats: Stats, passes_per_s: float) -> float:
    """Estimates the decode speed with drafting off: bare passes, and sampling as measured now."""
    if not passes_per_s or not stats.target_passes:
        return 0.0
    overhead_s = (stats.time.sample_s + stats.time.other_s) / stats.target_passes
    return 1.0 / (1.0 / passes_per_s + overhead_s)


def _length_columns(lengths: Sequence[int]) -> str:
    """Draws draft lengths over time in one row, each column the mean of several passes."""
    recent = lengths[-LENGTHS_WIDTH * PASSES_PER_COLUMN :]
    groups = [recent[i : i + PASSES_PER_COLUMN] for i in range(0, len(recent), PASSES_PER_COLUMN)]
    means = [sum(group) / len(group) for group in groups]
    top = max(means, default=0) or 1.0
    columns = "".join(_LEVELS[max(1, round(8 * mean / top))] for mean in means)
    return columns.ljust(LENGTHS_WIDTH)


def _row(brush: Brush, label: str, value: str) -> Text:
    gap = " " * max(1, WIDTH - len(label) - len(value))
    return Text.assemble((label, brush.muted), gap, (value, brush.plain))
