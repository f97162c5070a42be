"""Choices that the chat remembers between runs, a small file each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.errors import LocalmtpError


def load_preference(file: Path) -> str:
    """Returns what was chosen last; empty when nothing was."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def save_preference(file: Path, value: str) -> None:
    """Saves a choice; ignores errors, since a colour is not worth one."""
    with suppress(OSError, LocalmtpError):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, value, durable=False)
