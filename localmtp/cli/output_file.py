"""Files that commands write: others are overwritten only with `--force`."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from localmtp.errors import LocalmtpError

Command = TypeVar("Command", bound=Callable[..., Any])

_HEAD = 4096
"""Bytes that tell what a file is."""


def is_trace(head: bytes) -> bool:
    """Return whether a file begins like a trace of `run --trace` or `bench trace`."""
    return head.startswith((b'{"confidence": [', b'{"model": "'))


def is_plot(head: bytes) -> bool:
    """Return whether a file begins like an SVG plot of `bench`."""
    return head.startswith(b"<svg ") and b": speedup by draft length<" in head


def force_option(command: Command) -> Command:
    """Add `--force`."""
    return click.option("--force", is_flag=True, help="Overwrite existing files.")(command)


def check_output(path: Path, *, force: bool, is_ours: Callable[[bytes], bool]) -> None:
    """Refuse to overwrite a file that the command did not write.

    Devices and pipes are written in place and never refused; so are empty files.

    Args:
        path: the file to write.
        force: whether the user allows it.
        is_ours: tells from the first bytes whether the command wrote the file.

    Raises:
        LocalmtpError: the file exists and is something else, or its folder does not exist.
    """
    whole = path.absolute()
    try:
        if not stat.S_ISREG(whole.stat().st_mode) or force:
            return
        with whole.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        if not whole.parent.is_dir():
            raise LocalmtpError(f"there is no directory {whole.parent}") from None
        return
    except OSError as error:
        raise LocalmtpError(f"cannot write {whole}: {error.strerror}") from error
    if head and not is_ours(head):
        raise LocalmtpError(
            f"{whole} exists", hint="choose another file, or overwrite it with --force"
        )
