"""The owner of standard output: model text made safe for terminals, closed pipes noticed."""

from __future__ import annotations

import sys

import click

from localmtp.cli.diagnostics import VISIBLE, ReaderGoneError
from localmtp.portability import is_closed_pipe


def text(said: str) -> None:
    """Print a model's words at once; on a terminal, control characters are shown, not obeyed.

    Raises:
        ReaderGoneError: standard output was closed by its reader.
    """
    if said:
        _write(said.translate(VISIBLE) if sys.stdout.isatty() else said)


def line(words: str = "") -> None:
    """Print a line of ours.

    Raises:
        ReaderGoneError: standard output was closed by its reader.
    """
    _write(words + "\n")


def aside(said: str) -> None:
    """Show a model's thoughts on the terminal, dimmed; they are not part of the answer."""
    if said and sys.stderr.isatty():
        click.echo(dim(said.translate(VISIBLE)), err=True, nl=False)


def dim(words: str) -> str:
    """For what accompanies an answer."""
    return click.style(words, dim=True)


def _write(words: str) -> None:
    try:
        sys.stdout.write(words)
        sys.stdout.flush()
    except OSError as error:
        if is_closed_pipe(error):
            raise ReaderGoneError from error
        raise
