"""Bringing a model to this machine: which files, checked before and after they are downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.errors import LocalmtpError
from localmtp.models.choice import (
    drafter_names,
    parts_of,
    pick_target,
    quant_label,
    target_names,
)
from localmtp.models.download import Report, download
from localmtp.models.files import ModelFiles
from localmtp.models.gguf_header import Header
from localmtp.models.hub import RemoteFile, gguf_files, remote_header
from localmtp.models.pairing import check_pair, check_target, is_qat, lineage_warning
from localmtp.models.room import shortage
from localmtp.models.shape import shape_of
from localmtp.models.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a pair on the hub."""

    name: str
    header: Header
    """The target's."""
    target: tuple[RemoteFile, ...]
    """Several where the file is published in parts."""
    drafter: RemoteFile | None
    why_no_drafter: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def shortage(self) -> str:
        """What memory lacks for a short chat with this pair; empty when there is enough."""
        weights = sum(part.nbytes for part in self.target)
        drafter = self.drafter.nbytes if self.drafter else 0
        return shortage(self.name, shape_of(self.header), weights, drafter)


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
    header = remote_header(files[chosen])
    check_target(header, str(files[chosen]))
    target = tuple(files[part] for part in parts_of(files, chosen))
    if not with_drafter:
        return Plan(wanted.name, header, target, None, "--drafter none")
    if drafter and drafter.repo != repo:
        files = {file.name: file for file in gguf_files(drafter.repo)}
    names = drafter_names(files, drafter.file if drafter else "", quant_label(chosen))
    found, why, warning = _first_fitting(header, target[0], [files[n] for n in names])
    return Plan(wanted.name, header, target, found, why, (warning,) if warning else ())


def carry_out(plan: Plan, report: Report | None = None) -> ModelFiles:
    """Download what is missing.

    Raises:
        LocalmtpError: see `download`.
    """
    wanted = [*plan.target, *([plan.drafter] if plan.drafter else ())]
    paths = download(wanted, report)
    drafter = paths[-1] if plan.drafter else None
    return ModelFiles(
        plan.name,
        paths[0],
        drafter,
        drafter.stem if drafter else "",
        plan.why_no_drafter,
        plan.warnings,
    )


def _first_fitting(
    header: Header, target: RemoteFile, candidates: list[RemoteFile]
) -> tuple[RemoteFile | None, str, str]:
    """The first drafter that fits the target, of its lineage if there is one: it, why not, warning.

    Headers are read until one fits on both counts, so as a rule one is.
    """
    why, mixed, warning = f"{target.repo} holds no drafter", None, ""
    for candidate in candidates:
        try:
            offered = remote_header(candidate)
            check_pair(header, offered, str(target), str(candidate))
        except LocalmtpError as fault:
            why = fault.message
            continue
        lineages = is_qat(header, str(target)), is_qat(offered, str(candidate))
        if lineages[0] == lineages[1]:
            return candidate, "", ""
        if mixed is None:
            mixed, warning = candidate, lineage_warning(*lineages, str(target), str(candidate))
    return mixed, "" if mixed else why, warning


def _not_there(repo: str, label: str, names: list[str]) -> LocalmtpError:
    targets = target_names(names)
    if not targets:
        return LocalmtpError(
            f"{repo} holds no GGUF file of a target",
            hint=f"`localmtp convert {repo} --out DIR` makes one from a checkpoint",
        )
    labels = sorted({quant_label(name) or name for name in targets})
    return LocalmtpError(f"{repo} has no quantization {label}", hint=f"it has: {', '.join(labels)}")
