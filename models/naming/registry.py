"""The registry of models known by name: the entries that ship with localmtp, and the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from localmtp.engine.compatibility import HEAD_IN_FILE
from localmtp.errors import LocalmtpError
from localmtp.models.embedded import NANO
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.shape import ModelShape, shape_from_registry
from localmtp.paths import registry_file

BUILT_IN = tuple(Path(__file__).with_name(name) for name in ("gemma4.toml", "qwen.toml"))


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on the hub."""

    repo: str
    """`USER/REPO`."""
    file: str
    """Path in the repository, or a glob pattern."""

    def __str__(self) -> str:
        return f"{self.repo}/{self.file}"


@dataclass(frozen=True, slots=True)
class Quant:
    """A quantization of a model, with its drafter."""

    label: str
    """Quantization type, such as `Q4_0`."""
    target: HubFile
    drafter: HubFile | None
    qat: bool
    """Quantization-aware training."""
    nbytes: int
    """Size of the target in bytes; 0 if unknown."""
    drafter_nbytes: int
    projector_nbytes: int = 0
    """Size of the entry's projector in bytes; 0 if unknown, or without one."""
    head: bool = False
    """Whether an MTP head is in the target's file."""

    @property
    def drafter_name(self) -> str:
        """Display name of the drafter; empty without one."""
        if self.drafter:
            return self.drafter.file.rpartition("/")[2]
        return HEAD_IN_FILE if self.head else ""

    @property
    def sizes(self) -> Weights:
        """Sizes of all files."""
        return Weights(self.nbytes, self.drafter_nbytes, projector=self.projector_nbytes)


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A model of the registry."""

    name: str
    title: str
    aliases: tuple[str, ...]
    original: str
    """Repository of the checkpoint that it was made from."""
    licence: str
    context: int
    """The model's own context in tokens."""
    n_draft: int | None
    """Draft length to start with, from published measurements."""
    projector: HubFile | None
    """Projector for images and sound; text needs none."""
    shape: ModelShape | None
    quants: tuple[Quant, ...]
    """Quantizations in order of preference."""

    def quant(self, label: str) -> Quant:
        """Returns the quantization with a label, in any case.

        Raises:
            LocalmtpError: there is none.
        """
        for quant in self.quants:
            if quant.label.lower() == label.lower():
                return quant
        raise LocalmtpError(
            f"{self.name} has no quantization {label}",
            hint=f"it has: {', '.join(q.label for q in self.quants)}",
        )


@cache
def entries() -> Mapping[str, RegistryEntry]:
    """Returns all entries by name; an entry of the user replaces a built-in one.

    Raises:
        LocalmtpError: a registry file is damaged, or an entry incomplete.
    """
    own = registry_file()
    return {
        name: _entry(name, fields, file)
        for file in (*BUILT_IN, *([own] if own.exists() else ()))
        for name, fields in _read(file).items()
    }


def find(name: str) -> RegistryEntry | None:
    """Returns the entry with a name or alias, in any case."""
    name = name.lower()
    for entry in entries().values():
        if name in (entry.name.lower(), *entry.aliases):
            return entry
    return None


def drafter_for(repo: str) -> HubFile | None:
    """Returns the drafter of a repository's targets, if the registry has it."""
    quants = (quant for entry in entries().values() for quant in entry.quants)
    return next((quant.drafter for quant in quants if quant.target.repo == repo), None)


def projector_for(repo: str) -> HubFile | None:
    """Returns the projector of a repository's targets, if the registry has it."""
    return next(
        (
            entry.projector
            for entry in entries().values()
            if any(quant.target.repo == repo for quant in entry.quants)
        ),
        None,
    )


def similar_names(name: str) -> list[str]:
    """Returns the names that look most similar: one, or several that are about equally similar."""
    begin = [each for each in entries() if name and each.startswith(name.lower())]
    if 0 < len(begin) <= 2:
        return begin
    near = get_close_matches(name.lower(), [NANO, *entries()], n=3)
    ratios = [SequenceMatcher(None, name.lower(), each).ratio() for each in near]
    return [each for each, ratio in zip(near, ratios, strict=True) if ratio > ratios[0] - 0.05]


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise LocalmtpError(f"cannot read {file}: {fault}") from fault


def _entry(name: str, fields: Mapping[str, Any], file: Path) -> RegistryEntry:
    try:
        projector = fields.get("projector", {})
        return RegistryEntry(
            name=name,
            title=fields.get("title", name),
            aliases=tuple(alias.lower() for alias in fields.get("aliases", ())),
            original=fields.get("original", ""),
            licence=fields.get("licence", ""),
            context=fields.get("context", 0),
            n_draft=fields.get("n_draft"),
            projector=_hub_file(projector["file"]) if projector else None,
            shape=shape_from_registry(fields["shape"]) if "shape" in fields else None,
            quants=tuple(
                _quant(label, {"head": fields.get("head", False), **q}, projector.get("bytes", 0))
                for label, q in fields["quants"].items()
            ),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise LocalmtpError(
            f"the entry `{name}` in {file} is incomplete: {fault}",
            hint='it needs [NAME.quants.LABEL] with target = "USER/REPO/FILE.gguf"',
        ) from fault


def _quant(label: str, fields: Mapping[str, Any], projector_nbytes: int) -> Quant:
    return Quant(
        label=label,
        target=_hub_file(fields["target"]),
        drafter=_hub_file(fields["drafter"]) if "drafter" in fields else None,
        qat=fields.get("qat", False),
        nbytes=fields.get("bytes", 0),
        drafter_nbytes=fields.get("drafter_bytes", 0),
        projector_nbytes=projector_nbytes,
        head=fields["head"],
    )


def _hub_file(text: str) -> HubFile:
    user, repo, file = text.split("/", 2)
    return HubFile(f"{user}/{repo}", file)
