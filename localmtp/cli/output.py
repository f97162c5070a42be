"""The only door to standard output and standard error.

Text from models, files and servers is made safe for terminals, and writing errors are reported.
"""

from __future__ import annotations

import errno
import sys

import click

from localmtp.errors import LocalmtpError
from localmtp.portability import is_closed_pipe

_ESCAPED = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}
"""Representations of control characters, which a terminal would obey."""


_quiet = False


class ReaderGoneError(Exception):
    """The reader of standard output has closed it, which is not an error."""


def visible(text: str) -> str:
    r"""Return text with control characters, except newlines and tabs, as `\x1b` and so on."""
    return text.translate(_ESCAPED)


def text(answer: str) -> None:
    """Write part of a model's answer to standard output.

    Control characters are made visible on a terminal, and left alone elsewhere.

    Raises:
        ReaderGoneError: the reader of standard output has closed it.
        LocalmtpError: standard output cannot be written.
    """
    if answer:
        _write(answer)


def line(words: str = "") -> None:
    """Write a line to standard output; see `text`."""
    _write(words + "\n")


def thought(text: str) -> None:
    """Write part of a model's thoughts to standard error, dimmed, if that is a terminal."""
    if text and shows_progress():
        click.echo(click.style(visible(text), dim=True), err=True, nl=False)


def be_quiet(quiet: bool) -> None:
    """Leave out notes, hints, thoughts and progress from now on, or not."""
    global _quiet
    _quiet = quiet


def shows_progress() -> bool:
    """Return whether progress is drawn: standard error is a terminal, and not to be quiet."""
    return not _quiet and sys.stderr is not None and sys.stderr.isatty()


def note(words: str, *, dim: bool = False) -> None:
    """Write a line to standard error, with control characters made visible."""
    if not _quiet:
        _write_error_line(words, dim=dim)


def warning(words: str) -> None:
    """Write a warning to standard error, even if quiet."""
    _write_error_line(f"warning: {words}")


def hint(words: str) -> None:
    """Write a hint to standard error."""
    note(f"hint: {words}")


def _write_error_line(words: str, *, dim: bool = False) -> None:
    shown = visible(words)
    click.echo(click.style(shown, dim=True) if dim else shown, err=True)


def _write(words: str) -> None:
    if sys.stdout is None:
        raise LocalmtpError("standard output is closed", hint="redirect it: > /dev/null")
    try:
        sys.stdout.write(visible(words) if sys.stdout.isatty() else words)
        sys.stdout.flush()
    except OSError as error:
        if is_closed_pipe(error):
            raise ReaderGoneError from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise LocalmtpError(
            f"cannot write to standard output: {error.strerror}",
            hint="free some disk space" if full else "",
        ) from error
