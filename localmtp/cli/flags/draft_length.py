"""Draft lengths as values of options."""

from __future__ import annotations

import click

from localmtp.limits import MAX_DRAFT


class DraftLength(click.ParamType[int | None]):
    """`auto` (None) or a number of tokens."""

    name = f"auto|0..{MAX_DRAFT}"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the placeholder of the help."""
        return self.name

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the length, or None for `auto`."""
        if value is None or value == "auto":
            return None
        if not (isinstance(value, str) and value.isdecimal() and int(value) <= MAX_DRAFT):
            self.fail(f"{value!r} is neither `auto` nor a number from 0 to {MAX_DRAFT}", param, ctx)
        return int(value)


class DraftLengths(click.ParamType[list[int | None]]):
    """Comma-separated draft lengths."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int | None]:
        """Return the lengths without duplicates; None is `auto`."""
        parts = [part.strip() for part in str(value).split(",")]
        return list(dict.fromkeys(DraftLength().convert(part, param, ctx) for part in parts))
