"""Text that is safe to draw, and numbers as people read them."""

from __future__ import annotations

CONTROL_PICTURES = 0x2400
"""Unicode's visible stand-ins for C0 controls begin here: U+241B is the picture of escape."""

_SHOWN = {
    **{code: chr(CONTROL_PICTURES + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    # C1 controls: a terminal may obey 0x9B as it obeys ESC [.
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    # Bidirectional overrides reorder what stands around them.
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"),
}


def visible(text: str) -> str:
    """Shows control characters instead of letting a terminal obey them."""
    return text.translate(_SHOWN)


def rate(per_second: float) -> str:
    """Three significant digits: 4.12, 41.2, 412, 1,240."""
    if per_second < 10:
        return f"{per_second:.2f}"
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def share(part: float) -> str:
    """A share of 0..1 in percent."""
    return f"{100 * part:.0f} %"


def duration(seconds: float) -> str:
    """Milliseconds below a second, minutes above a hundred seconds."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def plural(count: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def bar(part: float, width: int) -> str:
    """A share of 0..1 as a line, to half a cell."""
    halves = round(min(1.0, max(0.0, part)) * width * 2)
    return "━" * (halves // 2) + "╸" * (halves % 2)


def gauge(part: float, width: int) -> str:
    """A bar with what is missing after it."""
    line = bar(part, width)
    return line + "─" * (width - len(line))


def size(nbytes: int) -> str:
    """Megabytes below a gigabyte; both decimal, as disks and downloads are counted."""
    return f"{nbytes / 1e6:.0f} MB" if nbytes < 1e9 else f"{nbytes / 1e9:.1f} GB"
