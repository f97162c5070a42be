"""What the chat remembers of how it looks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def theme_file() -> Path:
    """Where the name of the theme is kept."""
    from platformdirs import user_state_path

    return user_state_path("localmtp", appauthor=False) / "theme"


def remembered_theme(file: Path) -> str:
    """The theme used last; empty when there is none."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def remember_theme(file: Path, name: str) -> None:
    """Keeps the theme for the next time, if it can be: colours are not worth an error."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, encoding="utf-8")
