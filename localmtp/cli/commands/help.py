"""`localmtp help`: the help of a command."""

from __future__ import annotations

import click

from localmtp.cli import output


@click.command("help", short_help="The help of a command.")
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of COMMAND, as `localmtp COMMAND --help` does.

    \b
        localmtp help run
        localmtp help bench synthetic
    """  # noqa: D301 - click reads the character
    assert context.parent is not None
    shown = context.parent
    for name in names:
        group = shown.command
        found = group.get_command(shown, name) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"No such command {name!r}.", shown)
        shown = click.Context(found, info_name=name, parent=shown)
    output.line(shown.get_help())
