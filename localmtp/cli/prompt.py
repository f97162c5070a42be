"""The prompt of `run`: an argument, standard input, or both; images and sound."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localmtp.cli import output
from localmtp.cli.options import collected
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.media import Media

Command = TypeVar("Command", bound=Callable[..., Any])

_STDIN = "-"

_PATIENCE_S = 2.0
"""Seconds without input before a note says what is being waited for."""


def whole_prompt(
    argument: str | None, *, stdin_is_taken: bool = False, may_be_empty: bool = False
) -> str:
    """Return the prompt; standard input follows an argument, after an empty line.

    Args:
        argument: of the command line; None or `-` for standard input alone.
        stdin_is_taken: standard input is an image or sound, not text.
        may_be_empty: a prompt is not required.

    Raises:
        LocalmtpError: there is no prompt, it is empty, or standard input is not UTF-8.
    """
    if stdin_is_taken:
        if argument == "-":
            raise LocalmtpError(
                "standard input is read once", hint="give the prompt as an argument"
            )
        parts = [argument or ""]
    elif may_be_empty and argument is None and not _is_redirected():
        parts = []
    elif argument in (None, "-"):
        if sys.stdin is None or sys.stdin.isatty():
            raise LocalmtpError("there is no prompt", hint='for example: `localmtp run "Hello"`')
        parts = [_read()]
    else:
        assert argument is not None
        parts = [argument, _read() if _is_redirected() else ""]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text and not may_be_empty:
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


@dataclass(frozen=True, slots=True)
class MediaFlags:
    """Files of images and sounds; `-` is standard input."""

    image: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.image or self.audio)

    @property
    def reads_stdin(self) -> bool:
        """Whether one of the files is standard input."""
        return _STDIN in (*self.image, *self.audio)

    def load(self) -> list[Media]:
        """Read the files.

        Raises:
            LocalmtpError: one cannot be read, or is of the other kind.
        """
        if (*self.image, *self.audio).count(_STDIN) > 1:
            raise LocalmtpError("standard input is read once", hint="name files for the others")
        loaded = [_load(name, "image") for name in self.image]
        return [*loaded, *(_load(name, "audio") for name in self.audio)]


def media_options(command: Command) -> Command:
    """Add `--image` and `--audio`, passed as `media: MediaFlags`."""
    command = collected(MediaFlags, "media")(command)
    for option, text in (
        ("--audio", "The same with sound."),
        ("--image", "Put an image before the prompt; `-` for standard input; repeatable."),
    ):
        command = click.option(option, multiple=True, metavar="FILE", help=text)(command)
    return command


def _load(name: str, kind: str) -> Media:
    from localmtp.media import READABLE, load_media, media_from_bytes

    if name == _STDIN:
        media = media_from_bytes(sys.stdin.buffer.read(), "standard input")
    else:
        media = load_media(name)
    if media.kind != kind:
        other = "--audio" if kind == "image" else "--image"
        raise LocalmtpError(f"{media.name} is no {kind} file", hint=f"use `{other}`; {READABLE}")
    return media
