"""What a plan is made from, and what an engine makes of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from localmtp.errors import LocalmtpError


@dataclass(frozen=True, slots=True)
class Pair:
    """The files and checkpoints to run."""

    name: str
    """As shown to people."""
    target: str
    """A GGUF file: its path, or USER/REPO/FILE on the hub when it is not on this machine."""
    drafter: str
    """Likewise."""
    installed: bool
    original: str
    """The checkpoint on the hub that the files were made from; empty where it is not known."""
    context: int
    """Tokens to make room for."""
    n_draft: int
    """0: drafting does not pay."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one engine runs a pair."""

    commands: tuple[tuple[str, ...], ...]
    """Arguments, in the order in which to run them."""
    url: str
    """Where the engine then answers, before `/v1`."""
    served_as: str = ""
    """The model's name there; empty where it is the only one."""
    file: str = ""
    """What to write into `file_name` first."""
    file_name: str = ""
    notes: tuple[str, ...] = ()
    """What to know, one line each."""
    checked: str = ""
    """What the syntax was checked against."""


def shell(command: Sequence[str]) -> str:
    """A command as one would type it, each flag on a line of its own."""
    lines: list[list[str]] = [[]]
    for argument in command:
        if argument.startswith("-") and argument[1:2].isalpha() | (argument[:2] == "--"):
            lines.append([])
        lines[-1].append(shlex.quote(argument))
    if len(lines) < 4:
        return shlex.join(command)
    return " \\\n    ".join(map(" ".join, lines))


def fetched(pair: Pair) -> tuple[Pair, tuple[tuple[str, ...], ...]]:
    """The pair with its files in the current folder, and the commands that bring them there.

    A pair that is on this machine stays where it is.

    Raises:
        LocalmtpError: what the files are called is not known exactly.
    """
    if pair.installed:
        return pair, ()
    commands, places = [], []
    for source in (pair.target, pair.drafter) if pair.n_draft else (pair.target,):
        if set("*?") & set(source):
            raise LocalmtpError(
                f"the files of {pair.name} are known by a pattern only: {source}",
                hint=f"`localmtp pull {pair.name}` first",
            )
        user, repo, file = source.split("/", 2)
        commands.append(("hf", "download", f"{user}/{repo}", file, "--local-dir", "."))
        places.append(f"./{file}")
    target, drafter = places[0], places[-1]
    return replace(pair, target=target, drafter=drafter, installed=True), tuple(commands)
