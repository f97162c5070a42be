"""`--no-media` as a value of `--mmproj`."""

from __future__ import annotations

import click

from localmtp.models.files import NO_PROJECTOR

_META = "localmtp.no_media"


def note_no_media(context: click.Context, _: click.Parameter, given: bool) -> None:
    """Records `--no-media` for `without_media`."""
    context.meta[_META] = given


def without_media(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Returns the value of `--mmproj`, `none` with `--no-media`.

    Raises:
        click.UsageError: `--no-media` is given with a projector.
    """
    if not context.meta.get(_META):
        return path
    if path not in (None, NO_PROJECTOR):
        raise click.UsageError("--no-media and --mmproj FILE exclude each other", context)
    return NO_PROJECTOR
