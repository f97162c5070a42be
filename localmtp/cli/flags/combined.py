"""Flags that have no effect, or contradict each other, together."""

from __future__ import annotations

import click
from click.core import ParameterSource

_OF_TEMPLATES = {
    "system": "--system",
    "think": "--think",
    "think_budget": "--think-budget",
    "chat_template": "--chat-template",
}
_OF_DRY = {
    "dry_base": "--dry-base",
    "dry_allowed_length": "--dry-allowed-length",
    "dry_penalty_last_n": "--dry-penalty-last-n",
}


def check_thinking() -> None:
    """Refuses a thinking budget with `--no-think`.

    Raises:
        click.UsageError: both are given.
    """
    context = click.get_current_context()
    given = context.params
    if given["think_budget"] and _typed(context, "think") and not given["think"]:
        raise click.UsageError("--think-budget thinks: leave out --no-think", context)


def check_cache_size() -> None:
    """Refuses a size of the cache without a cache.

    Raises:
        click.UsageError: there is none.
    """
    context = click.get_current_context()
    if _typed(context, "cache_size") and context.params["cache"] is None:
        raise click.UsageError("--cache-size needs --cache DIR", context)


def check_raw() -> None:
    """Refuses settings of the chat template with `--raw`.

    Raises:
        click.UsageError: there are any.
    """
    context = click.get_current_context()
    for name, flag in _OF_TEMPLATES.items():
        if _typed(context, name) and context.params[name]:
            raise click.UsageError(f"{flag} has no effect with --raw", context)


def check_dry() -> None:
    """Refuses settings of DRY without DRY.

    Raises:
        click.UsageError: there are any.
    """
    context = click.get_current_context()
    if context.params["dry_multiplier"] or context.params["on_repeat"] == "dry":
        return
    for name, flag in _OF_DRY.items():
        if _typed(context, name):
            raise click.UsageError(f"{flag} needs --dry or --on-repeat dry", context)


def _typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
