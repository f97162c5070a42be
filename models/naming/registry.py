"""The models known by name: ours, and the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from localmtp.errors import LocalmtpError
from localmtp.models.memory.shape import Shape, shape_from
from localmtp.paths import registry_file

OWN = Path(__file__).with_name("gemma4.toml")


@dataclass(frozen=True, slots=True)
class Source:
    """A file on the hub."""

    repo: str
    """`USER/REPO`."""
    file: str
    """Its path in the repository; `*` and `?` stand for anything."""

    def __str__(self) -> str:
        return f"{self.repo}/{self.file}"


@dataclass(frozen=True, slots=True)
class Quant:
    """One quantization of a model, with the drafter that belongs to it."""

    label: str
    target: Source
    drafter: Source | None
    qat: bool
    """Of quantization-aware training."""
    nbytes: int
    """Of the target's file; 0 when not known."""
    drafter_nbytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A model by name."""

    name: str
    title: str
    aliases: tuple[str, ...]
    original: str
    """The repository of the checkpoint that it was made from."""
    licence: str
    context: int
    n_draft: int | None
    """The draft length to begin with, from published measurements."""
    projector: Source | None
    """Of images and sound; text needs none."""
    shape: Shape | None
    quants: tuple[Quant, ...]
    """In order of preference."""

    def quant(self, label: str) -> Quant:
        """The quantization of that name, in any case.

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
def entries() -> Mapping[str, Entry]:
    """All entries by name; the user's come last and take the place of ours.

    Raises:
        LocalmtpError: a registry file is damaged or lacks a field.
    """
    own = registry_file()
    return {
        name: _entry(name, fields, file)
        for file in (OWN, *([own] if own.exists() else ()))
        for name, fields in _read(file).items()
    }


def find(name: str) -> Entry | None:
    """The entry of that name or alias, in any case."""
    wanted = name.lower()
    for entry in entries().values():
        if wanted in (entry.name.lower(), *entry.aliases):
            return entry
    return None


def drafter_for(repo: str) -> Source | None:
    """Where the drafter for a repository's targets is, if the registry knows."""
    quants = (quant for entry in entries().values() for quant in entry.quants)
    return next((quant.drafter for quant in quants if quant.target.repo == repo), None)


def nearest(name: str) -> list[str]:
    """Names that may have been meant."""
    return get_close_matches(name.lower(), ["nano", *entries()], n=3)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise LocalmtpError(f"cannot read {file}: {fault}") from fault


def _entry(name: str, fields: Mapping[str, Any], file: Path) -> Entry:
    try:
        return Entry(
            name=name,
            title=fields.get("title", name),
            aliases=tuple(alias.lower() for alias in fields.get("aliases", ())),
            original=fields.get("original", ""),
            licence=fields.get("licence", ""),
            context=fields.get("context", 0),
            n_draft=fields.get("n_draft"),
            projector=_source(fields["projector"]["file"]) if "projector" in fields else None,
            shape=shape_from(fields["shape"]) if "shape" in fields else None,
            quants=tuple(_quant(label, q) for label, q in fields["quants"].items()),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise LocalmtpError(
            f"the entry `{name}` in {file} is not complete: {fault}",
            hint='it needs [NAME.quants.LABEL] with target = "USER/REPO/FILE.gguf"',
        ) from fault


def _quant(label: str, fields: Mapping[str, Any]) -> Quant:
    return Quant(
        label=label,
        target=_source(fields["target"]),
        drafter=_source(fields["drafter"]) if "drafter" in fields else None,
        qat=fields.get("qat", False),
        nbytes=fields.get("bytes", 0),
        drafter_nbytes=fields.get("drafter_bytes", 0),
    )


def _source(text: str) -> Source:
    user, repo, file = text.split("/", 2)
    return Source(f"{user}/{repo}", file)
