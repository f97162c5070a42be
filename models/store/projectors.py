"""Projectors on this machine: next to a target, or in the hub's cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_MEDIA, NO_PROJECTOR, ModelFiles
from localmtp.models.gguf_header import read_header
from localmtp.models.naming.pairing import DescribedFile, name_similarity
from localmtp.models.naming.projector import (
    ProjectorChoice,
    best_projector,
    chosen,
    names_a_projector,
    projector_names,
    require_projector,
    type_rank,
)
from localmtp.models.naming.reference import ModelReference
from localmtp.models.store.cache import cached_files
from localmtp.models.store.local import describe


def with_projector(
    files: ModelFiles, projector: str | None, reference: ModelReference | None = None
) -> ModelFiles:
    """Returns the files of a pair with the projector to load.

    Args:
        files: the pair.
        projector: a path, `none` for no images and sound, or None for the target's own.
        reference: of a pair from the hub; None to look next to the target.

    Raises:
        LocalmtpError: the given file is missing, no projector, or of another model.
    """
    if projector == NO_PROJECTOR:
        return with_choice(files, ProjectorChoice(None, NO_MEDIA))
    if projector is not None:
        path = Path(projector).expanduser()
        target, described = describe(files.target), describe_projector(path)
        require_projector(target, described)
        return with_choice(files, chosen(path, target, described))
    if reference is None:
        return with_choice(files, nearby_projector(files.target))
    return with_choice(files, projector_on_disk(reference, files.target))


def with_choice(files: ModelFiles, choice: ProjectorChoice[Path]) -> ModelFiles:
    """Returns the files of a pair with a chosen projector."""
    return replace(
        files, projector=choice.file, why_no_projector=choice.why_not, media=choice.media
    )


def nearby_projector(target: Path) -> ProjectorChoice[Path]:
    """Chooses among the projectors next to a target, the most similar name first."""
    files = [file for file in sorted(target.parent.iterdir()) if names_a_projector(file.name)]
    stem = target.stem.lower()
    files.sort(key=lambda file: (-name_similarity(_bare(file), stem), type_rank(file.name)))
    return _best(target, files, f"no projector (mmproj) was found next to {target.name}")


def projector_on_disk(reference: ModelReference, target: Path) -> ProjectorChoice[Path]:
    """Chooses a projector for a target among those in the hub's cache."""
    source = reference.projector
    repositories = [source.repo] if source else []
    if reference.target.repo not in repositories:
        repositories.append(reference.target.repo)
    candidates = []
    for repo in repositories:
        files = dict(cached_files(repo))
        pattern = source.file if source and source.repo == repo else ""
        candidates += [files[name] for name in projector_names(files, pattern)]
    otherwise = (
        f"no projector for {reference.name} is here; `localmtp pull {reference.name}` looks for one"
    )
    return _best(target, candidates, otherwise)


def describe_projector(path: Path) -> DescribedFile:
    """Reads the whole header of a projector, tensor table included.

    Raises:
        LocalmtpError: it is missing, a directory, or not GGUF.
    """
    if path.is_dir():
        raise LocalmtpError(f"{path} is a directory, not a GGUF file")
    return DescribedFile(path.name, read_header(path))


def _best(target: Path, candidates: Iterable[Path], otherwise: str) -> ProjectorChoice[Path]:
    files = list(candidates)
    if not files:
        return ProjectorChoice(None, otherwise)
    described = [(file, partial(describe_projector, file)) for file in files]
    return best_projector(describe(target), described, otherwise)


def _bare(projector: Path) -> str:
    return projector.stem.lower().replace("mmproj", "").strip("-_.")
