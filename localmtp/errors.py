"""The one exception that users see."""

from __future__ import annotations


class LocalmtpError(Exception):
    """Something a user can act on.

    Args:
        message: one line: what is wrong, and with which file.
        hint: one line: what to do about it; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
