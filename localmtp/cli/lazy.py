"""Groups whose commands are imported when they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """Imports a command's module when the command is looked up.

    Args:
        lazy_commands: `module:attribute` by command name, in the order of the help.
        settings: see `click.Group`.
    """

    def __init__(self, *, lazy_commands: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self._lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the help."""
        return list(self._lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None if there is none of that name."""
        if cmd_name not in self._lazy_commands:
            return None
        module, _, attribute = self._lazy_commands[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names, or suggest a similar one.

        Raises:
            click.UsageError: there is no such command.
        """
        similar = get_close_matches(args[0], self._lazy_commands, n=1)
        if args[0] not in self._lazy_commands and similar:
            raise click.UsageError(
                f"No such command {args[0]!r}. Did you mean {similar[0]!r}?", ctx
            )
        return super().resolve_command(ctx, args)
