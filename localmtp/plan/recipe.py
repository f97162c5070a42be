"""Input and output of the plans for an engine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from localmtp.errors import LocalmtpError


@dataclass(frozen=True, slots=True)
class PlannedPair:
    """A pair to run on another engine."""

    name: str
    """Display name."""
    target: str
    """Path of a GGUF file; `USER/REPO/FILE` on the hub unless installed."""
    drafter: str
    """As `target`; empty without one."""
    projector: str
    """As `target`; empty without one."""
    installed: bool
    original: str
    """Checkpoint on the hub that the files were made from; empty if unknown."""
    context: int
    """In tokens."""
    n_draft: int
    """Draft length in tokens; 0 turns drafting off."""
    draft_model: bool = False
    """Whether the drafter is a smaller model with the same vocabulary."""
    drafter_original: str = ""
    """Checkpoint on the hub that a draft model was made from; empty if unknown."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Recommended `temperature`, `top_k`, `top_p` and `min_p`; missing ones are unknown."""

    @property
    def head_in_file(self) -> bool:
        """Whether the drafter is an MTP head in the target's file."""
        return self.drafter == self.target


@dataclass(frozen=True, slots=True)
class LaunchRecipe:
    """Commands and files that run a pair on an engine."""

    commands: tuple[tuple[str, ...], ...]
    """Argument lists, in order of execution."""
    url: str
    """Address of the server, without `/v1`."""
    served_as: str = ""
    """Name of the model on the server; empty if it is the only one."""
    file: str = ""
    """Content of `file_name`, to be written first; empty if none is needed."""
    file_name: str = ""
    notes: tuple[str, ...] = ()
    """Remarks, one line each."""
    checked: str = ""
    """Documents or programs that the syntax was checked against."""


def shell(command: Sequence[str]) -> str:
    """Formats a command for a shell, long ones with one flag per line."""
    lines: list[list[str]] = [[]]
    for argument in command:
        if argument.startswith("-") and argument[1:2].isalpha() | (argument[:2] == "--"):
            lines.append([])
        lines[-1].append(shlex.quote(argument))
    if len(lines) < 4:
        return shlex.join(command)
    return " \\\n    ".join(map(" ".join, lines))


def with_downloads(pair: PlannedPair) -> tuple[PlannedPair, tuple[tuple[str, ...], ...]]:
    """Returns the pair with local paths, and the commands that download its files.

    An installed pair is returned unchanged; other files are downloaded into the current folder.

    Raises:
        LocalmtpError: the registry has a pattern instead of a file name.
    """
    if pair.installed:
        return pair, ()
    commands, places = [], {}
    drafter = pair.drafter if pair.n_draft else ""
    for source in dict.fromkeys(filter(None, (pair.target, drafter, pair.projector))):
        if set("*?") & set(source):
            raise LocalmtpError(
                f"the registry has only a pattern for the files of {pair.name}: {source}",
                hint=f"run `localmtp pull {pair.name}` first",
            )
        user, repo, file = source.split("/", 2)
        commands.append(("hf", "download", f"{user}/{repo}", file, "--local-dir", "."))
        places[source] = f"./{file}"
    local = replace(
        pair,
        target=places[pair.target],
        drafter=places.get(drafter, ""),
        projector=places.get(pair.projector, ""),
        installed=True,
    )
    return local, tuple(commands)
