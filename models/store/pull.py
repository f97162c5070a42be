"""Pulling a model: choosing its files on the hub, checking them, downloading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from localmtp.engine.compatibility import HEADS, check_target
from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER, NO_MEDIA, ModelFiles
from localmtp.models.gguf_header import Header
from localmtp.models.gguf_settings import check_settings
from localmtp.models.memory.available import available_memory, shortage
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import largest_context
from localmtp.models.memory.shape import shape_of
from localmtp.models.naming.pairing import DescribedFile, DrafterChoice, best_drafter
from localmtp.models.naming.projector import (
    ProjectorChoice,
    best_projector,
    projector_names,
)
from localmtp.models.naming.quant import (
    drafter_names,
    parts_of,
    pick_target,
    quant_label,
    target_names,
)
from localmtp.models.naming.reference import ModelReference
from localmtp.models.store.download import ProgressCallback, download
from localmtp.models.store.hub import RemoteFile, gguf_files, remote_header
from localmtp.models.store.local import model_files
from localmtp.models.store.projectors import with_choice


@dataclass(frozen=True, slots=True)
class PullPlan:
    """The files of a pair on the hub."""

    name: str
    header: Header
    """Header of the target."""
    target: tuple[RemoteFile, ...]
    """All parts, usually one."""
    drafter: DrafterChoice[RemoteFile]
    qat: bool
    """Whether the target says that it is from quantization-aware training."""
    projector: ProjectorChoice[RemoteFile]

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files of target, drafter and projector."""
        others = (self.drafter.file, self.projector.file)
        return self.target + tuple(file for file in others if file and file not in self.target)

    @property
    def weights(self) -> Weights:
        """File sizes."""
        file = self.drafter.file
        drafter = file.nbytes if file and file not in self.target else 0
        projector = self.projector.file.nbytes if self.projector.file else 0
        return Weights(sum(part.nbytes for part in self.target), drafter, projector=projector)

    @property
    def context(self) -> int:
        """Largest context that fits this machine now, in tokens; 0 for none."""
        limit = self.header.number("context_length")
        return largest_context(shape_of(self.header), self.weights, limit, available_memory())

    @property
    def shortage(self) -> str:
        """See `localmtp.models.memory.available.shortage`."""
        return shortage(self.name, shape_of(self.header), self.weights)


def plan_pull(
    reference: ModelReference, *, with_drafter: bool = True, with_projector: bool = True
) -> PullPlan:
    """Finds the files of a pair on the hub and reads their headers, without downloading them.

    Args:
        reference: target and drafter.
        with_drafter: whether to look for a drafter.
        with_projector: whether to look for a projector. One that cannot be found is no error.

    Raises:
        LocalmtpError: the hub cannot be reached, or has no matching target.
    """
    repo = reference.target.repo
    files = {file.name: file for file in gguf_files(repo)}
    chosen = pick_target(list(files), reference.target.file, reference.label)
    if chosen is None:
        raise _not_there(repo, reference.label, list(files))
    described = _described(files[chosen])
    check_target(described.traits)
    target = tuple(files[part] for part in parts_of(files, chosen))
    drafter: DrafterChoice[RemoteFile] = DrafterChoice(None, f"--drafter {NO_DRAFTER}")
    if with_drafter:
        drafter = _drafter(reference, described, files, files[chosen])
    projector: ProjectorChoice[RemoteFile] = ProjectorChoice(None, NO_MEDIA)
    if with_projector:
        projector = _projector(reference, described, files)
    return PullPlan(
        reference.name, described.header, target, drafter, described.qat, projector=projector
    )


def _drafter(
    reference: ModelReference,
    target: DescribedFile,
    files: Mapping[str, RemoteFile],
    own: RemoteFile,
) -> DrafterChoice[RemoteFile]:
    repo, drafter = reference.target.repo, reference.drafter
    if drafter and drafter.repo != repo:
        files = {file.name: file for file in gguf_files(drafter.repo)}
    label = quant_label(own.name)
    names = drafter_names(files, drafter.file if drafter else "", label)
    candidates = [(files[n], partial(_described_drafter, files[n])) for n in names]
    return best_drafter(target, candidates, f"{repo} holds no drafter", own)


def _projector(
    reference: ModelReference, target: DescribedFile, files: Mapping[str, RemoteFile]
) -> ProjectorChoice[RemoteFile]:
    """Chooses a projector: of the registry's repository, else of the target's."""
    repo, source = reference.target.repo, reference.projector
    otherwise = f"{repo} holds no projector (mmproj)"
    listings: list[tuple[Mapping[str, RemoteFile], str]] = []
    if source and source.repo != repo:
        try:
            listings.append(({f.name: f for f in gguf_files(source.repo)}, source.file))
        except LocalmtpError as fault:
            otherwise = fault.message
    listings.append((files, source.file if source and source.repo == repo else ""))
    candidates = [
        (listed[name], partial(_described, listed[name]))
        for listed, pattern in listings
        for name in projector_names(listed, pattern)
    ]
    return best_projector(target, candidates, otherwise)


def pull(
    plan: PullPlan, progress: ProgressCallback | None = None, *, verify: bool = False
) -> ModelFiles:
    """Downloads the missing files of a plan.

    Args:
        plan: see `plan_pull`.
        progress: called during downloads.
        verify: compute the hashes of cached files too.

    Raises:
        LocalmtpError: see `download`.
    """
    paths = dict(zip(plan.files, download(plan.files, progress, verify=verify), strict=True))
    found, media = plan.drafter, plan.projector
    files = model_files(
        plan.name,
        paths[plan.target[0]],
        DrafterChoice(_path(found.file, paths), found.why_not, found.why, found.warnings),
    )
    return with_choice(
        files,
        ProjectorChoice(_path(media.file, paths), media.why_not, media.why, media.media),
    )


def _path(file: RemoteFile | None, paths: Mapping[RemoteFile, Path]) -> Path | None:
    return paths[file] if file else None


def _described(file: RemoteFile) -> DescribedFile:
    header = remote_header(file)
    check_settings(header, str(file))
    return DescribedFile(str(file), header)


def _described_drafter(file: RemoteFile) -> DescribedFile:
    """Reads the tensors too where only they tell a head alone from a model with its head."""
    described = _described(file)
    if described.header.architecture in HEADS:
        return DescribedFile(str(file), remote_header(file, settings_only=False))
    return described


def _not_there(repo: str, label: str, names: list[str]) -> LocalmtpError:
    targets = target_names(names)
    if not targets:
        return LocalmtpError(
            f"{repo} holds no GGUF file of a target",
            hint=f"`localmtp convert {repo} --out DIR` makes one from a checkpoint",
        )
    labels = sorted({quant_label(name) or name for name in targets})
    return LocalmtpError(f"{repo} has no quantization {label}", hint=f"it has: {', '.join(labels)}")
