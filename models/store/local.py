"""Target and drafter given as files on this machine."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

from localmtp.engine.compatibility import check_pair, check_target
from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER, ModelFiles
from localmtp.models.gguf_header import read_header
from localmtp.models.naming.pairing import (
    Described,
    Found,
    agreement,
    best_drafter,
    lineage_warnings,
    names_a_drafter,
)


def resolve_path(target: Path, drafter: str | None) -> ModelFiles:
    """Pair a target file with the drafter asked for, or one found beside it.

    Args:
        target: the target's GGUF file.
        drafter: a path, `none`, or None to look beside the target.

    Raises:
        LocalmtpError: a file is missing, not GGUF, or not what it is taken for.
    """
    if drafter is not None and drafter != NO_DRAFTER:
        return pair(target.name, target, Path(drafter).expanduser())
    described = describe(target)
    check_target(described.traits)
    if drafter == NO_DRAFTER:
        return ModelFiles(target.name, target, None, "", f"--drafter {NO_DRAFTER}")
    return paired(target.name, target, _beside(target, described))


def pair(name: str, target: Path, drafter: Path) -> ModelFiles:
    """The pair of two files, checked.

    Raises:
        LocalmtpError: a file is missing or not GGUF, or they do not belong together.
    """
    of_target, of_drafter = describe(target), describe(drafter)
    check_target(of_target.traits)
    check_pair(of_target.traits, of_drafter.traits)
    why, warnings = agreement(of_target, of_drafter), lineage_warnings(of_target, of_drafter)
    return paired(name, target, Found(drafter, "", why, warnings))


def paired(name: str, target: Path, found: Found[Path]) -> ModelFiles:
    """The files of a target and what was found for it."""
    stem = found.file.stem if found.file else ""
    return ModelFiles(
        name, target, found.file, stem, found.why_not, found.why, warnings=found.warnings
    )


def describe(path: Path) -> Described:
    """What a file says of itself; in the hub's cache its repository's name speaks too.

    Raises:
        LocalmtpError: it is missing, a directory, or not GGUF.
    """
    if path.is_dir():
        files = sorted(p.name for p in path.glob("*.gguf") if not names_a_drafter(p.name))
        hint = f"name a file in it: {path / files[0]}" if files else "it holds no GGUF file"
        raise LocalmtpError(f"{path} is a directory, not a GGUF file", hint=hint)
    repository = next((part for part in path.parts if part.startswith("models--")), "")
    return Described(path.name, read_header(path, settings_only=True), repository)


def _beside(target: Path, described: Described) -> Found[Path]:
    """The best drafter beside the target: the likest name first."""
    folders = [target.parent, *(d for d in target.parent.iterdir() if d.name.lower() == "mtp")]
    files = [
        file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file != target and names_a_drafter(str(file.relative_to(target.parent)))
    ]
    files.sort(key=lambda file: _likeness(file, target), reverse=True)
    candidates = [(file, partial(describe, file)) for file in files]
    return best_drafter(described, candidates, f"no drafter was found beside {target.name}")


def _likeness(drafter: Path, target: Path) -> float:
    bare = drafter.stem.lower().removeprefix("mtp-").removesuffix("-mtp")
    return SequenceMatcher(None, bare, target.stem.lower()).ratio()
