"""Formats text safely for the terminal, and numbers for display."""

from __future__ import annotations

CONTROL_PICTURES = 0x2400
"""First of Unicode's symbols for C0 controls: U+241B is the symbol for escape."""

_REPLACEMENTS = {
    **{code: chr(CONTROL_PICTURES + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    # C1 controls: terminals may interpret 0x9B as ESC [.
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    # Bidirectional controls reorder the surrounding text.
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"),
    # Lone surrogates cannot be encoded for the terminal.
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
}


def show_controls(text: str) -> str:
    """Replaces control characters with visible symbols, so that no terminal interprets them."""
    return text.translate(_REPLACEMENTS)


def rate(per_second: float) -> str:
    """Formats a rate with three significant digits: 4.12, 41.2, 412, 1,240."""
    if per_second < 10:
        return f"{per_second:.2f}"
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def percent(fraction: float) -> str:
    """Formats a fraction in 0..1 as a percentage."""
    return f"{100 * fraction:.0f} %"


def duration(seconds: float) -> str:
    """Formats a time: milliseconds below a second, minutes above a hundred seconds."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def count(number: int, noun: str) -> str:
    """Formats a count with its noun: `1 token`, `2 tokens`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def bar(fraction: float, width: int) -> str:
    """Draws a fraction in 0..1 as a line of up to `width` cells, to half a cell."""
    halves = round(min(1.0, max(0.0, fraction)) * width * 2)
    return "━" * (halves // 2) + "╸" * (halves % 2)


def progress_bar(fraction: float, width: int) -> str:
    """Draws a fraction in 0..1 as a bar of exactly `width` cells."""
    line = bar(fraction, width)
    return line + "─" * (width - len(line))


def size(nbytes: int) -> str:
    """Formats a size in decimal units: megabytes below a gigabyte."""
    return f"{nbytes / 1e6:.0f} MB" if nbytes < 1e9 else f"{nbytes / 1e9:.1f} GB"
