"""The argument MODEL: names pasted from the hub are understood, and names are completed."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from localmtp.models.naming.hub_address import hub_name


class ModelName(click.ParamType[str]):
    """A model's name; an address on the hub becomes `USER/REPO[:QUANT]`."""

    name = "model"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the name."""
        return hub_name(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return names of the registry, or let the shell complete a file name."""
        from localmtp.models.embedded import NANO
        from localmtp.models.naming.registry import entries

        names = [name for name in (NANO, *entries()) if name.startswith(incomplete)]
        return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]


MODEL = ModelName()
