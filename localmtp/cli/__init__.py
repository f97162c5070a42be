"""The command line: one table of commands, each imported when it is used."""

from __future__ import annotations

import sys

import click

from localmtp import __version__
from localmtp.cli.diagnostics import guarded
from localmtp.cli.lazy import LazyGroup
from localmtp.portability import prepare_standard_streams

_COMMANDS = {
    "chat": "localmtp.cli.commands.chat:command",
    "run": "localmtp.cli.commands.run:command",
    "pull": "localmtp.cli.commands.models:pull",
    "list": "localmtp.cli.commands.models:list_",
    "show": "localmtp.cli.commands.models:show",
    "rm": "localmtp.cli.commands.models:rm",
    "convert": "localmtp.cli.commands.convert:command",
    "share": "localmtp.cli.commands.share:command",
    "bench": "localmtp.cli.bench.group:group",
    "verify": "localmtp.cli.commands.verify:command",
    "serve": "localmtp.cli.commands.serve:command",
    "plan": "localmtp.cli.commands.plan:command",
    "doctor": "localmtp.cli.commands.doctor:command",
    "help": "localmtp.cli.commands.help:command",
    "completion": "localmtp.cli.commands.completion:command",
}


@click.group(
    cls=LazyGroup,
    lazy_commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="localmtp %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors; accepted anywhere.")
@click.option(
    "--quiet", is_flag=True, help="Print no notes, progress or statistics; accepted anywhere."
)
def cli(debug: bool, quiet: bool) -> None:
    """Run Gemma 4 and other language models on this machine, with multi-token prediction.

    Try `localmtp chat`: without a MODEL it starts immediately, with no download.
    """


def main() -> None:
    """Run the command line and exit with its status."""
    prepare_standard_streams()
    sys.exit(guarded(cli, sys.argv[1:]))
