"""The command line: a table of commands, each loaded when it is used."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from localmtp import __version__
from localmtp.cli.diagnostics import guarded
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
    "bench": "localmtp.cli.bench.run:command",
    "verify": "localmtp.cli.commands.verify:command",
    "serve": "localmtp.cli.commands.serve:command",
    "plan": "localmtp.cli.commands.plan:command",
    "doctor": "localmtp.cli.commands.doctor:command",
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="localmtp %(version)s")
@click.option("--debug", is_flag=True, help="Show where an error comes from; works anywhere.")
def cli(debug: bool) -> None:
    """Run Gemma 4 on this machine, drafting several tokens at a time.

    Try `localmtp chat`: without a MODEL it answers at once, with no download.
    """


def main() -> None:
    """Run the command line and exit with its status."""
    prepare_standard_streams()
    sys.exit(guarded(cli, sys.argv[1:]))
