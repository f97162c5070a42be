"""The prompt of `run`: an argument, standard input, or both."""

from __future__ import annotations

import os
import select
import stat
import sys

from localmtp.cli import output
from localmtp.errors import LocalmtpError

_PATIENCE_S = 2.0
"""Seconds without input before a note says what is being waited for."""


def whole_prompt(argument: str | None) -> str:
    """Return the prompt; standard input follows an argument, after an empty line.

    Args:
        argument: of the command line; None or `-` for standard input alone.

    Raises:
        LocalmtpError: there is no prompt, it is empty, or standard input is not UTF-8.
    """
    if argument in (None, "-"):
        if sys.stdin is None or sys.stdin.isatty():
            raise LocalmtpError("there is no prompt", hint='for example: `localmtp run "Hello"`')
        parts = [_read()]
    else:
        assert argument is not None
        parts = [argument, _read() if _is_redirected() else ""]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise LocalmtpError("the prompt is empty", hint='for example: `localmtp run "Hello"`')
    return text


def _is_redirected() -> bool:
    """Return whether standard input is a file or a pipe, not a terminal or another device."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def _read() -> str:
    """Return standard input; a pipe that stays open and empty is named."""
    if sys.platform != "win32" and not select.select([sys.stdin], [], [], _PATIENCE_S)[0]:
        output.note("reading standard input; without it, add: < /dev/null")
    data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LocalmtpError(
            f"standard input is not valid UTF-8 (byte {error.start})",
            hint="convert it first, for example with iconv",
        ) from error
