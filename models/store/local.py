"""Targets and drafters given as files on this machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from localmtp.engine.compatibility import HEADS, check_target
from localmtp.errors import LocalmtpError
from localmtp.models.files import LOOKUP, NO_DRAFTER, ModelFiles, without_drafter
from localmtp.models.gguf_header import Header, TensorInfo, read_header
from localmtp.models.gguf_settings import check_settings
from localmtp.models.naming.pairing import (
    DescribedFile,
    DrafterChoice,
    agreement,
    best_drafter,
    lineage_warnings,
    name_similarity,
    names_a_drafter,
    require_match,
)
from localmtp.models.naming.quant import parts_of


def resolve_path(target: Path, drafter: str | None) -> ModelFiles:
    """Pairs a target file with a given drafter, or with one found next to it.

    Args:
        target: GGUF file of the target.
        drafter: a path, `none`, `lookup`, or None to look next to the target.

    Raises:
        LocalmtpError: a file is missing, not GGUF, or of the wrong kind.
    """
    if drafter is not None and drafter not in (NO_DRAFTER, LOOKUP):
        return checked_pair(target.name, target, Path(drafter).expanduser())
    described = describe(target)
    check_target(described.traits)
    if drafter is not None:
        return without_drafter(target.name, target, drafter)
    return model_files(target.name, target, _nearby_drafter(target, described))


def checked_pair(name: str, target: Path, drafter: Path) -> ModelFiles:
    """Returns a pair of two files.

    Args:
        name: display name.
        target: GGUF file of the target.
        drafter: GGUF file of the drafter.

    Raises:
        LocalmtpError: a file is missing or not GGUF, or they do not match.
    """
    of_target = describe(target)
    check_target(of_target.traits)
    if not drafter.exists():
        raise LocalmtpError(
            f"{drafter} does not exist",
            hint="--drafter takes a GGUF file, `lookup` or `none`",
        )
    of_drafter = describe(drafter)
    if drafter.samefile(target):
        if of_target.traits.has_head:
            return model_files(name, target, DrafterChoice(target, "", of_target.traits.own_head))
        raise LocalmtpError(
            f"{target.name} cannot draft for itself: it would be as slow as without drafts",
            hint="name a smaller model with the same vocabulary, or `--drafter lookup`",
        )
    require_match(of_target, of_drafter)
    why, warnings = agreement(of_target, of_drafter), lineage_warnings(of_target, of_drafter)
    if drafter.stat().st_size >= target.stat().st_size:
        slow = f"{drafter.name} is as large as {target.name}: drafts will hardly make it faster"
        warnings = (*warnings, slow)
    return model_files(name, target, DrafterChoice(drafter, "", why, warnings))


def model_files(name: str, target: Path, choice: DrafterChoice[Path]) -> ModelFiles:
    """Returns the files of a target and the drafter chosen for it; without one, it looks up."""
    own = choice.why if choice.file == target else ""
    drafter_name = own or (choice.file.stem if choice.file else LOOKUP)
    return ModelFiles(
        name,
        target,
        choice.file,
        drafter_name,
        choice.why_not,
        choice.why,
        lookup=choice.file is None,
        warnings=choice.warnings,
    )


def describe(path: Path) -> DescribedFile:
    """Reads the header of a file; in the hub's cache its repository is known too.

    Raises:
        LocalmtpError: it is missing, a directory, not GGUF, or libllama would abort on a setting.
    """
    if path.is_dir():
        files = sorted(p.name for p in path.glob("*.gguf") if not names_a_drafter(p.name))
        hint = f"name a file in it: {path / files[0]}" if files else "it holds no GGUF file"
        raise LocalmtpError(f"{path} is a directory, not a GGUF file", hint=hint)
    repository = next((part for part in path.parts if part.startswith("models--")), "")
    header = read_header(path, settings_only=True)
    check_settings(header, str(path))
    if header.architecture in HEADS and header.number("nextn_predict_layers"):
        header = _with_tensors(path, header)
    return DescribedFile(path.name, header, repository)


def tensor_names(path: Path) -> list[str]:
    """Returns the names of a model's tensors, of all its parts.

    Raises:
        LocalmtpError: see `read_header`.
    """
    return [tensor.name for table in _tables(path) for tensor in table]


def _tables(path: Path) -> list[tuple[TensorInfo, ...]]:
    parts = parts_of([other.name for other in path.parent.iterdir()], path.name)
    return [read_header(path.with_name(part)).tensors for part in parts]


def _with_tensors(path: Path, header: Header) -> Header:
    """Adds the tensors of all parts: they say whether a head, or only a head, is in the file."""
    tables = _tables(path)
    return replace(header, tensors=tuple(chain.from_iterable(tables)))


def _nearby_drafter(target: Path, described: DescribedFile) -> DrafterChoice[Path]:
    """Chooses among the drafters next to the target, the most similar name first."""
    folders = [target.parent, *(d for d in target.parent.iterdir() if d.name.lower() == "mtp")]
    files = [
        file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file != target and names_a_drafter(str(file.relative_to(target.parent)))
    ]
    files.sort(key=lambda file: _similarity(file, target), reverse=True)
    candidates = [(file, partial(describe, file)) for file in files]
    otherwise = f"no drafter was found next to {target.name}"
    return best_drafter(described, candidates, otherwise, target)


def _similarity(drafter: Path, target: Path) -> float:
    bare = drafter.stem.lower().removeprefix("mtp-").removesuffix("-mtp")
    return name_similarity(bare, target.stem.lower())
