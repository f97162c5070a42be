"""Bringing a model to this machine: which files, checked before and after they are downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from localmtp.engine.compatibility import check_target
from localmtp.errors import LocalmtpError
from localmtp.models.files import ModelFiles
from localmtp.models.gguf_header import Header
from localmtp.models.memory.available import room_here, shortage
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import largest_context
from localmtp.models.memory.shape import shape_of
from localmtp.models.naming.pairing import Described, Found, best_drafter
from localmtp.models.naming.quant import (
    drafter_names,
    parts_of,
    pick_target,
    quant_label,
    target_names,
)
from localmtp.models.naming.reference import Wanted
from localmtp.models.store.download import Report, download
from localmtp.models.store.hub import RemoteFile, gguf_files, remote_header
from localmtp.models.store.local import paired


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a pair on the hub."""

    name: str
    header: Header
    """The target's."""
    target: tuple[RemoteFile, ...]
    """Several where the file is published in parts."""
    drafter: Found[RemoteFile]
    qat: bool
    """Whether the target says that it is of quantization-aware training."""

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All of them."""
        return self.target + ((self.drafter.file,) if self.drafter.file else ())

    @property
    def weights(self) -> Weights:
        """Bytes of both files."""
        drafter = self.drafter.file.nbytes if self.drafter.file else 0
        return Weights(sum(part.nbytes for part in self.target), drafter)

    @property
    def context(self) -> int:
        """The largest with which it fits this machine now; 0 for none."""
        limit = self.header.number("context_length")
        return largest_context(shape_of(self.header), self.weights, limit, room_here())

    @property
    def shortage(self) -> str:
        """What memory lacks for a short chat with this pair; empty when there is enough."""
        return shortage(self.name, shape_of(self.header), self.weights)


def plan(wanted: Wanted, *, with_drafter: bool = True) -> Plan:
    """Find a pair's files on the hub and read their headers, before anything is downloaded.

    Args:
        wanted: target and drafter.
        with_drafter: whether to look for the drafter at all.

    Raises:
        LocalmtpError: the hub cannot be reached, or does not hold what is wanted.
    """
    repo, drafter = wanted.target.repo, wanted.drafter
    files = {file.name: file for file in gguf_files(repo)}
    chosen = pick_target(list(files), wanted.target.file, wanted.label)
    if chosen is None:
        raise _not_there(repo, wanted.label, list(files))
    described = _described(files[chosen])
    check_target(described.traits)
    target = tuple(files[part] for part in parts_of(files, chosen))
    if not with_drafter:
        found: Found[RemoteFile] = Found(None, "--drafter none")
        return Plan(wanted.name, described.header, target, found, described.qat)
    if drafter and drafter.repo != repo:
        files = {file.name: file for file in gguf_files(drafter.repo)}
    names = drafter_names(files, drafter.file if drafter else "", quant_label(chosen))
    candidates = [(files[n], partial(_described, files[n])) for n in names]
    found = best_drafter(described, candidates, f"{repo} holds no drafter")
    return Plan(wanted.name, described.header, target, found, described.qat)


def carry_out(plan: Plan, report: Report | None = None) -> ModelFiles:
    """Download what is missing.

    Raises:
        LocalmtpError: see `download`.
    """
    drafter = plan.drafter
    paths = download(plan.files, report)
    own = paths[-1] if drafter.file else None
    return paired(plan.name, paths[0], Found(own, drafter.why_not, drafter.why, drafter.warnings))


def _described(file: RemoteFile) -> Described:
    return Described(str(file), remote_header(file))


def _not_there(repo: str, label: str, names: list[str]) -> LocalmtpError:
    targets = target_names(names)
    if not targets:
        return LocalmtpError(
            f"{repo} holds no GGUF file of a target",
            hint=f"`localmtp convert {repo} --out DIR` makes one from a checkpoint",
        )
    labels = sorted({quant_label(name) or name for name in targets})
    return LocalmtpError(f"{repo} has no quantization {label}", hint=f"it has: {', '.join(labels)}")
