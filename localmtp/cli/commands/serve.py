"""`localmtp serve`: the OpenAI API over one pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from localmtp.cli.options import choices, generation_options, load_options, pair_options
from localmtp.errors import LocalmtpError

_PARALLEL = 4
"""Answers at once: an editor, a chat and a tool or two beside each other; more cost memory."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@click.command("serve", short_help="An OpenAI-compatible HTTP server.")
@click.argument("model", required=False)
@pair_options
@generation_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free."
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="LOCALMTP_API_KEY",
    help="Asked of every client; needed beyond loopback. Or LOCALMTP_API_KEY.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Answers made at once, each with the whole context; by default 4, or what memory allows.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Requests that may wait; more are told to come back (429).",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest generation of a request; what there is then is the answer.",
)
@click.option(
    "--cors", multiple=True, metavar="ORIGIN", help="Let pages of this origin in; repeatable."
)
def command(model: str | None, **flags: Any) -> None:
    """Serve MODEL to anything that speaks the OpenAI API.

    Without MODEL it serves the largest installed model that fits, else the embedded `nano`. The
    generation flags are for requests that do not choose themselves; --max-tokens is a limit.

    \b
    localmtp serve
    localmtp serve gemma4-e4b --port 9000
    LOCALMTP_API_KEY=secret localmtp serve gemma4-12b --host 0.0.0.0
    """  # noqa: D301 - click reads the character
    from localmtp.cli.progress import Downloads
    from localmtp.models import resolve
    from localmtp.models.memory.available import parallel_here

    _check(flags)
    try:
        from localmtp.serve.app import Access
        from localmtp.serve.server import ServerLimits, serve
    except ModuleNotFoundError as error:
        raise LocalmtpError(
            f"the server needs {error.name}, which is not installed",
            hint="pip install 'localmtp[serve]'",
        ) from error
    with Downloads() as progress:
        files = resolve(
            model, drafter=flags["drafter"], offline=flags["offline"], progress=progress
        )
    for warning in files.warnings:
        click.echo(f"warning: {warning}", err=True)
    options = load_options(flags)
    parallel = flags["parallel"] or parallel_here(files, options, _PARALLEL)
    serve(
        files,
        choices(flags),
        replace(options, parallel=parallel),
        address=(flags["host"], flags["port"]),
        access=Access(flags["api_key"] or None, flags["cors"]),
        limits=ServerLimits(flags["queue"], flags["time_limit"]),
        ready=lambda url: click.echo(
            f"serving {files.name} at {url} ({parallel} at once; Ctrl-C ends it)", err=True
        ),
    )


def _check(flags: dict[str, Any]) -> None:
    """Refuse what would be unsafe, or cannot work, before anything is loaded."""
    if flags["host"].lower() not in _LOOPBACK and not flags["api_key"]:
        raise LocalmtpError(
            f"--host {flags['host']} lets other machines in, and there is no API key",
            hint="give one: --api-key, or LOCALMTP_API_KEY in the environment",
        )
