"""What the chat remembers of how it looks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.errors import LocalmtpError


def remembered_theme(file: Path) -> str:
    """The theme used last; empty when there is none."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def remember_theme(file: Path, name: str) -> None:
    """Keeps the theme for the next time, if it can be: colours are not worth an error."""
    with suppress(OSError, LocalmtpError):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, name, durable=False)
