"""`localmtp chat`: the terminal chat."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from localmtp.cli.options import (
    check_exact,
    exact_option,
    generation_options,
    pair_options,
    prepared,
)
from localmtp.cli.server_options import check_flags, connect, server_options
from localmtp.errors import LocalmtpError


@click.command("chat", short_help="The chat, with live throughput beside it.")
@click.argument("model", required=False)
@server_options
@pair_options
@generation_options
@exact_option
@click.option(
    "--on-full",
    type=click.Choice(["stop", "drop"]),
    default="stop",
    show_default=True,
    help="When the context is full: stop, or drop the oldest turns.",
)
@click.option("--no-save", is_flag=True, help="Keep nothing of the conversation on disk.")
@click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal.")
def command(model: str | None, no_save: bool, no_mouse: bool, **flags: Any) -> None:
    """Chat with MODEL in the terminal and watch the drafting.

    Without MODEL it opens on the largest installed model that fits, else on the embedded `nano`.

    \b
    localmtp chat
    localmtp chat gemma4-e4b
    localmtp chat ./gemma-4-E4B-it-Q4_0.gguf --drafter ./mtp-gemma-4-E4B-it-Q8_0.gguf
    localmtp chat --server http://127.0.0.1:8080
    """  # noqa: D301 - click reads the character
    check_flags()
    check_exact(flags)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LocalmtpError(
            "the chat needs a terminal", hint='in a pipe, use: localmtp run MODEL "PROMPT"'
        )
    from localmtp.tui import run_chat

    run_chat(
        model,
        drafter=flags["drafter"],
        offline=flags["offline"],
        prepare=partial(prepared, flags),
        connect=(lambda name: connect(name, flags)) if flags["server"] else None,
        save=not no_save,
        mouse=not no_mouse,
    )
