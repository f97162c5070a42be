"""The one exception that users see."""

from __future__ import annotations


class LocalmtpError(Exception):
    """Something a user can act on.

    Line breaks become spaces: parts of a message may come from a peer or a file.

    Args:
        message: one line: what is wrong, and with which file.
        hint: one line: what to do about it; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = _one_line(message)
        self.hint = _one_line(hint)
        super().__init__(self.message)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines()).strip()
