"""Translation of `bench MODEL --synthetic` and other flags of 0.1 that became subcommands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from localmtp.cli import output

_WITHOUT_VALUE, _WITH_VALUE, _WITH_OPTIONAL_VALUE = range(3)


@dataclass(frozen=True, slots=True)
class _Subcommand:
    """The subcommand that replaces a flag of 0.1."""

    name: str
    value: int
    """Whether the flag takes a value."""
    option: str = ""
    """The subcommand's option for the value; empty if it is an argument."""
    ignores: bool = False
    """Whether options that the subcommand does not have were ignored, not refused."""


_SUBCOMMANDS = {
    "--replay": _Subcommand("replay", _WITH_VALUE, ignores=True),
    "--synthetic": _Subcommand("synthetic", _WITHOUT_VALUE),
    "--history": _Subcommand("history", _WITHOUT_VALUE, ignores=True),
    "--concurrency": _Subcommand("concurrency", _WITH_VALUE, "--parallel"),
    "--trace": _Subcommand("trace", _WITH_VALUE, ignores=True),
    "--compare": _Subcommand("compare", _WITH_OPTIONAL_VALUE),
}


def translated(
    arguments: list[str], command_of: Callable[[str], click.Command | None]
) -> list[str]:
    """Return the arguments with a subcommand in front.

    A line on standard error names the new form if one of the earlier flags was used.

    Args:
        arguments: of `bench`, without a subcommand.
        command_of: returns the subcommand of a name.

    Raises:
        click.UsageError: several flags stand for different subcommands.
    """
    rest, found = _split(arguments, _value_options(command_of))
    if not found:
        return ["run", *arguments]
    if len(found) > 1:
        raise click.UsageError(f"{' and '.join(found)} cannot be combined")
    [(flag, value)] = found.items()
    subcommand = _SUBCOMMANDS[flag]
    command = command_of(subcommand.name)
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    passed = [part for part in rest if not (subcommand.ignores and _is_unknown(part, known))]
    words = [word for part in passed for word in part]
    if value is not None:
        words += [subcommand.option, value] if subcommand.option else [value]
    new = shlex.join(["localmtp", "bench", subcommand.name, *words])
    output.warning(f"`bench {flag}` will be removed in the next release; use: {new}")
    return [subcommand.name, *words]


def _is_unknown(part: tuple[str, ...], known: set[str]) -> bool:
    name = part[0].partition("=")[0]
    return name.startswith("-") and name not in known


def _split(
    arguments: list[str], value_options: frozenset[str]
) -> tuple[list[tuple[str, ...]], dict[str, str | None]]:
    """Return options with their values and arguments one by one, and the earlier flags apart."""
    rest: list[tuple[str, ...]] = []
    found: dict[str, str | None] = {}
    words = iter(_with_following(arguments))
    for word, following in words:
        if word == "--":
            rest += [(word,), *((each,) for each, _ in words)]
            break
        flag, joined, value = word.partition("=")
        subcommand = _SUBCOMMANDS.get(flag)
        kind = subcommand.value if subcommand else _WITH_VALUE if flag in value_options else 0
        follows = kind == _WITH_VALUE or (
            kind == _WITH_OPTIONAL_VALUE and following is not None and following[:1] != "-"
        )
        if follows and not joined and following is not None:
            next(words)
            part: tuple[str, ...] = (word, following)
        else:
            part = (word,)
        if subcommand:
            found[flag] = value if joined else part[1] if len(part) > 1 else None
        else:
            rest.append(part)
    return rest, found


def _with_following(arguments: list[str]) -> Iterator[tuple[str, str | None]]:
    yield from zip(arguments, [*arguments[1:], None], strict=True)


def _value_options(command_of: Callable[[str], click.Command | None]) -> frozenset[str]:
    """Return the options of `bench` in 0.1 that take a value."""
    commands = [command_of(name) for name in ("run", "synthetic")]
    return frozenset(
        name
        for command in commands
        if command is not None
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for name in parameter.opts
    )
