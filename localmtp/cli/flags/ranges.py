"""Numbers as values of options, shown as `N` in the help."""

from __future__ import annotations

import click


class WholeNumber(click.IntRange):
    """An integer in a range."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the placeholder of the help."""
        return "N"

    def _describe_range(self) -> str:
        return super()._describe_range().replace("x", "N")


class Number(click.FloatRange):
    """A number in a range."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the placeholder of the help."""
        return "N"

    def _describe_range(self) -> str:
        return super()._describe_range().replace("x", "N")
