"""Calls of tools inside an answer, folded into a line each."""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from rich.text import Text

from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.formatting import show_controls

_MOST_LINES = 40
"""Lines of an unfolded result."""


@dataclass(slots=True)
class ToolCallView:
    """A call, and its result once there is one."""

    call: str
    result: str | None = None


def tool_lines(
    calls: list[ToolCallView], brush: Brush, width: int, *, unfolded: bool
) -> list[Line]:
    """Renders calls in `width` cells: a line each, or with arguments and results in full."""
    lines: list[Line] = []
    for view in calls:
        result = "running …" if view.result is None else " ".join(view.result.split())
        mark = "▾" if unfolded else "▸"
        folded = show_controls(f"{mark} {view.call} → {result}")
        if not unfolded:
            text = Text(folded, brush.muted, no_wrap=True, overflow="ellipsis")
            lines += brush.lines(text, width)
            continue
        lines += brush.lines(Text(show_controls(f"▾ {view.call}"), brush.muted), width)
        text = Text(show_controls(view.result or result), brush.muted, overflow="fold")
        bar = Segment("│ ", brush.rule)
        lines += [[bar, *line] for line in brush.lines(text, width - 2)[:_MOST_LINES]]
    return lines
