"""The option for another chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def template_option(command: Command) -> Command:
    """Add `--chat-template FILE`; goes above `pair_options`, which collects its value."""
    return click.option(
        "--chat-template",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Jinja template instead of the model's own.",
    )(command)
