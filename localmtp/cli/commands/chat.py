"""`localmtp chat`: the terminal chat."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmtp.cli.flags.cache import cache_options
from localmtp.cli.flags.combined import check_cache_size, check_thinking
from localmtp.cli.flags.template import template_option
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import (
    GenerationFlags,
    PairFlags,
    generation_options,
    pair_options,
    prepared,
    projector_options,
)
from localmtp.cli.server_options import ServerFlags, check_flags, connect, server_options
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.mcp.host import ToolHost


@click.command("chat", short_help="Chat in the terminal, with live statistics.")
@click.argument("model", type=MODEL, required=False)
@server_options
@projector_options
@template_option
@cache_options
@pair_options
@generation_options
@click.option(
    "--on-full",
    type=click.Choice(["stop", "drop"]),
    default="stop",
    show_default=True,
    help="When the context is full: stop, or drop the oldest turns.",
)
@click.option(
    "--mcp",
    metavar="CONFIG",
    help="Offer tools: a JSON file with `mcpServers`, or `builtin` for a clock and a calculator.",
)
@click.option("--no-save", is_flag=True, help="Do not save the conversation.")
@click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal.")
def command(
    model: str | None,
    remote: ServerFlags,
    pair: PairFlags,
    generation: GenerationFlags,
    mcp: str | None,
    no_save: bool,
    no_mouse: bool,
) -> None:
    """Chat with MODEL in the terminal and watch it draft.

    Without MODEL it uses the largest installed model that fits, or the embedded `nano`.

    \b
        localmtp chat
        localmtp chat gemma4-e4b
        localmtp chat ./gemma-4-E4B-it-Q4_0.gguf --drafter ./mtp-gemma-4-E4B-it-Q8_0.gguf
        localmtp chat gemma4-12b --mcp ~/mcp.json
        localmtp chat --server http://127.0.0.1:8080
    """  # noqa: D301 - click reads the character
    check_flags()
    check_thinking()
    check_cache_size()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LocalmtpError(
            "the chat needs a terminal", hint='in a pipe, use `localmtp run MODEL "PROMPT"`'
        )
    from localmtp.tui import run_chat

    run_chat(
        model,
        drafter=pair.drafter,
        projector=pair.mmproj,
        offline=pair.offline,
        prepare=partial(prepared, pair, generation),
        connect=(lambda name: connect(name, remote, generation)) if remote.server else None,
        save=not no_save,
        mouse=not no_mouse,
        tools=_tools(mcp) if mcp else None,
    )


def _tools(config: str) -> ToolHost:
    """Connects to the servers of a configuration, in the background.

    Raises:
        LocalmtpError: the configuration is not valid, or the `mcp` package is missing.
    """
    from localmtp.mcp.config import read_config
    from localmtp.mcp.host import ToolHost

    if config == "builtin":
        return ToolHost((), builtin=True)
    return ToolHost(read_config(Path(config).expanduser()))
