"""`--rpc`: devices of other machines, and the error if one is lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from localmtp.portability import terminal_restorer

Command = TypeVar("Command", bound=Callable[..., Any])

_OFF_SCREEN = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[<u"
"""Leaves the alternate screen, shows the cursor, and disables mouse, paste and key reporting."""


def rpc_option(command: Command) -> Command:
    """Add `--rpc`; the servers are connected when the command is parsed."""
    return click.option(
        "--rpc",
        multiple=True,
        metavar="HOST:PORT",
        callback=_connect,
        expose_value=False,
        help="llama.cpp RPC server to put layers on; repeatable, trusted networks only.",
    )(command)


def _connect(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> None:
    servers = [part.strip() for each in given for part in each.split(",")]
    if not servers:
        return
    from localmtp.engine.llama.ggml import on_abort
    from localmtp.engine.rpc import add_servers

    add_servers(servers)
    restore = terminal_restorer(sys.stdin, _OFF_SCREEN)

    def end(reason: str) -> None:
        restore()
        lost = "Remote RPC server" in reason
        what = f"an RPC server was lost: {', '.join(servers)}" if lost else reason.strip()
        # Not through sys.stderr, which a chat captures.
        os.write(2, f"error: {what}\n".encode())
        # ggml would abort now: the layers on the server are lost, and no pass can finish.
        os._exit(1)

    on_abort(end)
