"""The flags of commands that can also talk to another server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from localmtp.cli.options import choices

if TYPE_CHECKING:
    from localmtp.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])

_MEANT_FOR_SERVERS = frozenset(
    {"model", "prompt", "server", "api_key", "raw", "as_json", "no_save", "system", "think"}
    | {"temp", "top_k", "top_p", "min_p", "seed", "max_tokens", "n_draft"}
)


def server_options(command: Command) -> Command:
    """Which server, if not this machine."""
    url = click.option("--server", metavar="URL", help="Let an OpenAI-compatible server answer.")
    key = click.option(
        "--api-key",
        metavar="KEY",
        envvar=["LOCALMTP_API_KEY", "OPENAI_API_KEY"],
        help="For the server.  [env: LOCALMTP_API_KEY, OPENAI_API_KEY]",
    )
    return url(key(command))


def check_flags() -> None:
    """Refuse flags that would do nothing: of this machine with a server, of a server without.

    Raises:
        click.UsageError: there are any.
    """
    context = click.get_current_context()
    remote = context.params["server"] is not None
    for parameter in context.command.params:
        name = parameter.name or ""
        meant = name in _MEANT_FOR_SERVERS if remote else name != "api_key"
        if not meant and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            reason = "is the server's to decide" if remote else "is for --server"
            raise click.UsageError(f"{parameter.opts[0]} {reason}", context)


def connect(model: str | None, flags: dict[str, Any]) -> Session:
    """The session with a server.

    Raises:
        LocalmtpError: see `open_remote`.
    """
    from localmtp.remote.session import open_remote

    return open_remote(flags["server"], model, choices(flags), flags["api_key"] or "")
