"""Options of commands that can also use another server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from localmtp.cli.options import GenerationFlags, collected

if TYPE_CHECKING:
    from localmtp.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])

_SENT_TO_SERVERS = frozenset(
    {
        "model",
        "model_option",
        "prompt",
        "server",
        "api_key",
        "raw",
        "as_json",
        "no_save",
        "system",
        "think",
        "image",
        "audio",
        "mcp",
        "think_budget",
    }
    | {"temp", "top_k", "top_p", "min_p", "seed", "max_tokens", "n_draft"}
    | {"repeat_penalty", "presence_penalty", "frequency_penalty"}
    | {"dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"}
)
"""Parameters that have an effect with `--server`."""


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """Values of `server_options`."""

    server: str | None = None
    """URL; None runs the model on this machine."""
    api_key: str | None = None


def server_options(command: Command) -> Command:
    """Add the options for another server, passed as `remote: ServerFlags`."""
    url = click.option("--server", metavar="URL", help="Use an OpenAI-compatible server.")
    key = click.option(
        "--api-key",
        metavar="KEY",
        envvar=["LOCALMTP_API_KEY", "OPENAI_API_KEY"],
        help="The server's API key.  [env: LOCALMTP_API_KEY, OPENAI_API_KEY]",
    )
    return url(key(collected(ServerFlags, "remote")(command)))


def check_flags() -> None:
    """Refuse flags without effect: local ones with `--server`, the server's without it.

    Raises:
        click.UsageError: there are any.
    """
    context = click.get_current_context()
    remote = context.params["server"] is not None
    for parameter in context.command.params:
        name = parameter.name or ""
        applies = name in _SENT_TO_SERVERS if remote else name != "api_key"
        if not applies and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            reason = "has no effect with --server" if remote else "needs --server"
            raise click.UsageError(f"{parameter.opts[0]} {reason}", context)


def connect(model: str | None, remote: ServerFlags, generation: GenerationFlags) -> Session:
    """Open a session with a server.

    Args:
        model: a name the server knows; None for its only or first one.
        remote: with a URL.
        generation: how answers are generated.

    Raises:
        LocalmtpError: see `open_remote`.
    """
    from localmtp.remote.session import open_remote

    assert remote.server is not None
    return open_remote(remote.server, model, generation.choices(), remote.api_key or "")
