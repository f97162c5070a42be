"""`localmtp serve`: the OpenAI API over one pair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import click

from localmtp.cli import output
from localmtp.cli.flags.cache import cache_options
from localmtp.cli.flags.combined import check_cache_size
from localmtp.cli.flags.ranges import Number, WholeNumber
from localmtp.cli.flags.template import template_option
from localmtp.cli.loading import find_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import (
    GenerationFlags,
    PairFlags,
    collected,
    generation_options,
    pair_options,
    projector_options,
)
from localmtp.errors import LocalmtpError

_PARALLEL = 4
"""Concurrent answers by default: an editor, a chat and a tool or two. More cost memory."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class _HttpFlags:
    """Options of the HTTP server."""

    host: str
    port: int
    api_key: str | None
    parallel: int | None
    queue: int
    cache_ram: int
    time_limit: float
    cors: tuple[str, ...]
    allow_remote_media: bool


@click.command("serve", short_help="An OpenAI-compatible HTTP server.")
@click.argument("model", type=MODEL, required=False)
@projector_options
@template_option
@cache_options
@pair_options
@generation_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=8080,
    show_default=True,
    help="Port; 0 selects a free one.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="LOCALMTP_API_KEY",
    help="Required from clients; mandatory beyond loopback.  [env: LOCALMTP_API_KEY]",
)
@click.option(
    "--parallel",
    type=WholeNumber(1, 64),
    metavar="N",
    help="Concurrent answers, each with the whole context.  [default: 4, or what memory allows]",
)
@click.option(
    "--queue",
    type=WholeNumber(min=0),
    default=64,
    show_default=True,
    help="Requests that may wait; further ones are rejected (429).",
)
@click.option(
    "--cache-ram",
    type=WholeNumber(min=0),
    default=512,
    show_default=True,
    metavar="MIB",
    help="Main memory for conversations whose slot another one takes; 0 drops them.",
)
@click.option(
    "--time-limit",
    type=Number(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of a request; its answer is cut there.",
)
@click.option(
    "--cors", multiple=True, metavar="ORIGIN", help="Allow pages of this origin; repeatable."
)
@click.option(
    "--allow-remote-media",
    is_flag=True,
    help="Fetch images and sounds from addresses in requests; never from private ones.",
)
@collected(_HttpFlags, "http")
def command(
    model: str | None, pair: PairFlags, generation: GenerationFlags, http: _HttpFlags
) -> None:
    """Serve MODEL to clients of the OpenAI API.

    Without MODEL it uses the largest installed model that fits, or the embedded `nano`. The
    generation flags are defaults for requests; --max-tokens is an upper limit, and --think-budget
    limits requests that think without a budget of their own.

    \b
        localmtp serve
        localmtp serve gemma4-e4b --port 9000
        LOCALMTP_API_KEY=secret localmtp serve gemma4-12b --host 0.0.0.0
    """  # noqa: D301 - click reads the character
    from localmtp.models.memory.available import choose_parallel

    _check(http)
    check_cache_size()
    try:
        from localmtp.serve.app import Access
        from localmtp.serve.server import ServerLimits, serve
    except ModuleNotFoundError as error:
        raise LocalmtpError(
            f"the server needs {error.name}, which is not installed",
            hint="install it with `pip install 'localmtp[serve]'`",
        ) from error
    files = find_model(model, pair)
    options = pair.load_options()
    parallel = http.parallel or choose_parallel(files, options, _PARALLEL)
    serve(
        files,
        replace(generation.choices(), think=generation.think),
        replace(options, parallel=parallel, host_cache_bytes=http.cache_ram << 20),
        address=(http.host, http.port),
        access=Access(http.api_key or None, http.cors),
        limits=ServerLimits(http.queue, http.time_limit),
        allow_remote_media=http.allow_remote_media,
        warn=output.warning,
        ready=lambda url: output.note(
            f"serving {files.name} at {url} ({parallel} concurrent answers; Ctrl-C stops it)"
        ),
    )


def _check(http: _HttpFlags) -> None:
    """Refuse to listen beyond loopback without an API key.

    Raises:
        LocalmtpError: there is none.
    """
    if http.host.lower() not in _LOOPBACK and not http.api_key:
        raise LocalmtpError(
            f"--host {http.host} gives other machines access, and no API key is set",
            hint="set one with `--api-key` or LOCALMTP_API_KEY",
        )
