"""Target and drafter given as files on this machine."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER, ModelFiles
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.pairing import (
    check_pair,
    check_target,
    is_qat,
    lineage_warning,
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
    header = _read(target)
    check_target(header, target.name)
    if drafter == NO_DRAFTER:
        return ModelFiles(target.name, target, None, "", f"--drafter {NO_DRAFTER}")
    if drafter is not None:
        return pair(target.name, target, Path(drafter).expanduser())
    found, why = _beside(target, header)
    if found is None:
        return ModelFiles(target.name, target, None, "", why)
    return pair(target.name, target, found)


def pair(name: str, target: Path, drafter: Path) -> ModelFiles:
    """The pair of two files, checked.

    Raises:
        LocalmtpError: a file is missing or not GGUF, or they do not belong together.
    """
    of_target, of_drafter = _read(target), _read(drafter)
    check_target(of_target, target.name)
    check_pair(of_target, of_drafter, target.name, drafter.name)
    warning = lineage_warning(
        is_qat(of_target, *_telling_names(target)),
        is_qat(of_drafter, *_telling_names(drafter)),
        target.name,
        drafter.name,
    )
    return ModelFiles(name, target, drafter, drafter.stem, warnings=(warning,) if warning else ())


def _read(path: Path) -> Header:
    if path.is_dir():
        files = sorted(p.name for p in path.glob("*.gguf") if not names_a_drafter(p.name))
        hint = f"name a file in it: {path / files[0]}" if files else "it holds no GGUF file"
        raise LocalmtpError(f"{path} is a directory, not a GGUF file", hint=hint)
    return read_header(path, settings_only=True)


def _beside(target: Path, header: Header) -> tuple[Path | None, str]:
    """The best drafter beside the target, or the reason that there is none."""
    folders = [target.parent, *(d for d in target.parent.iterdir() if d.name.lower() == "mtp")]
    files = (f for folder in folders if folder.is_dir() for f in sorted(folder.iterdir()))
    refused = ""
    fitting: list[tuple[bool, float, str, Path]] = []
    for file in files:
        if file == target or not names_a_drafter(str(file.relative_to(target.parent))):
            continue
        try:
            candidate = _read(file)
            check_pair(header, candidate, target.name, file.name)
        except LocalmtpError as fault:
            refused = fault.message
            continue
        same_lineage = is_qat(candidate, *_telling_names(file)) == is_qat(
            header, *_telling_names(target)
        )
        likeness = SequenceMatcher(None, _bare(file), _bare(target)).ratio()
        fitting.append((same_lineage, likeness, file.name, file))
    if fitting:
        return max(fitting)[-1], ""
    return None, refused or f"no drafter was found beside {target.name}"


def _bare(file: Path) -> str:
    return file.stem.lower().removeprefix("mtp-").removesuffix("-mtp")


def _telling_names(path: Path) -> list[str]:
    """A file's name, and in the hub's cache its repository's."""
    return [path.name, *(part for part in path.parts if part.startswith("models--"))]
