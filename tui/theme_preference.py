"""The theme, remembered between runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.errors import LocalmtpError


def load_theme(file: Path) -> str:
    """Returns the name of the theme used last; empty when there is none."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def save_theme(file: Path, name: str) -> None:
    """Saves the name of the theme; ignores errors, since a theme is not worth one."""
    with suppress(OSError, LocalmtpError):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, name, durable=False)
