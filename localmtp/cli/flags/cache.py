"""Options for the prompt cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from localmtp.cli.flags.ranges import Number

Command = TypeVar("Command", bound=Callable[..., Any])


def cache_options(command: Command) -> Command:
    """Add `--cache` and `--cache-size`; goes above `pair_options`, which collects their values."""
    directory = click.option(
        "--cache",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep the KV cache of conversations there, across restarts.",
    )
    size = click.option(
        "--cache-size",
        type=Number(min=0, min_open=True),
        default=8.0,
        show_default=True,
        metavar="GB",
        help="Most that --cache may take; the least recently used conversations are deleted.",
    )
    return directory(size(command))
