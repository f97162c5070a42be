"""Pulling a model: choosing its files on the hub, checking them, downloading them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from localmtp.engine.compatibility import check_target
from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER, ModelFiles
from localmtp.models.gguf_header import Header
from localmtp.models.gguf_settings import check_settings
from localmtp.models.memory.available import available_memory, shortage
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import largest_context
from localmtp.models.memory.shape import shape_of
from localmtp.models.naming.pairing import DescribedFile, DrafterChoice, best_drafter
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

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files of target and drafter."""
        return self.target + ((self.drafter.file,) if self.drafter.file else ())

    @property
    def weights(self) -> Weights:
        """File sizes."""
        drafter = self.drafter.file.nbytes if self.drafter.file else 0
        return Weights(sum(part.nbytes for part in self.target), drafter)

    @property
    def context(self) -> int:
        """Largest context that fits this machine now, in tokens; 0 for none."""
        limit = self.header.number("context_length")
        return largest_context(shape_of(self.header), self.weights, limit, available_memory())

    @property
    def shortage(self) -> str:
        """See `localmtp.models.memory.available.shortage`."""
        return shortage(self.name, shape_of(self.header), self.weights)


def plan_pull(reference: ModelReference, *, with_drafter: bool = True) -> PullPlan:
    """Finds the files of a pair on the hub and reads their headers, without downloading them.

    Args:
        reference: target and drafter.
        with_drafter: whether to look for a drafter.

    Raises:
        LocalmtpError: the hub cannot be reached, or has no matching target.
    """
    repo, drafter = reference.target.repo, reference.drafter
    files = {file.name: file for file in gguf_files(repo)}
    chosen = pick_target(list(files), reference.target.file, reference.label)
    if chosen is None:
        raise _not_there(repo, reference.label, list(files))
    described = _described(files[chosen])
    check_target(described.traits)
    target = tuple(files[part] for part in parts_of(files, chosen))
    if not with_drafter:
        none: DrafterChoice[RemoteFile] = DrafterChoice(None, f"--drafter {NO_DRAFTER}")
        return PullPlan(reference.name, described.header, target, none, described.qat)
    if drafter and drafter.repo != repo:
        files = {file.name: file for file in gguf_files(drafter.repo)}
    names = drafter_names(files, drafter.file if drafter else "", quant_label(chosen))
    candidates = [(files[n], partial(_described, files[n])) for n in names]
    choice = best_drafter(described, candidates, f"{repo} holds no drafter")
    return PullPlan(reference.name, described.header, target, choice, described.qat)


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
    choice = plan.drafter
    paths = download(plan.files, progress, verify=verify)
    drafter = paths[-1] if choice.file else None
    return model_files(
        plan.name, paths[0], DrafterChoice(drafter, choice.why_not, choice.why, choice.warnings)
    )


def _described(file: RemoteFile) -> DescribedFile:
    header = remote_header(file)
    check_settings(header, str(file))
    return DescribedFile(str(file), header)


def _not_there(repo: str, label: str, names: list[str]) -> LocalmtpError:
    targets = target_names(names)
    if not targets:
        return LocalmtpError(
            f"{repo} holds no GGUF file of a target",
            hint=f"`localmtp convert {repo} --out DIR` makes one from a checkpoint",
        )
    labels = sorted({quant_label(name) or name for name in targets})
    return LocalmtpError(f"{repo} has no quantization {label}", hint=f"it has: {', '.join(labels)}")
