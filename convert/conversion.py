"""Conversion of checkpoints to GGUF files that have been loaded and run."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from localmtp.convert.architectures.base import HeadPart, ModelRole
from localmtp.convert.huggingface.source import LocatedCheckpoint, locate
from localmtp.convert.job import ConversionJob, PlannedFile, plan_job
from localmtp.convert.output.gguf_file import (
    existing_files,
    refuse_existing,
    require_disk_space,
)
from localmtp.convert.output.imatrix import read_imatrix
from localmtp.convert.output.metadata import Provenance
from localmtp.convert.output.quantize import QuantizationSpec, file_type
from localmtp.convert.projector import PROJECTOR_TYPES, PlannedProjector
from localmtp.convert.quality.measure import ReportText, fits_memory, read_text
from localmtp.convert.quality.report import SUFFIX
from localmtp.convert.run import ConversionRun, ConvertedFile, ConvertProgress
from localmtp.errors import LocalmtpError
from localmtp.hardware.cpu import cores

_MAX_NAME_BYTES = 200
"""Longest model name; file systems limit a file name to 255 bytes."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a conversion."""

    quants: Sequence[str] = ("Q4_K_M",)
    """Quantizations of the target, or of a drafter given alone."""
    drafter_quants: Sequence[str] = ("Q8_0",)
    """Quantizations of the drafter of a pair."""
    name: str | None = None
    """Name of the model in file names and metadata; None: name of its directory or repository."""
    overrides: Sequence[tuple[str, str]] = ()
    """(regular expression on GGUF tensor names, type) for files of `quants`; first match wins."""
    imatrix: Path | None = None
    """Importance matrix for files of `quants`."""
    quantized_by: str | None = None
    """Value of `general.quantized_by`."""
    license: str | None = None
    """Licence of the weights as an identifier of the hub; None: from the model card."""
    mtp: bool = False
    """Write the MTP head of the checkpoint as a file of its own."""
    no_mtp: bool = False
    """Leave the MTP head out of the model's file."""
    mmproj: Sequence[str] = ()
    """Types of the multimodal projector to write: F16, BF16, F32; empty: none."""
    part_size: int = 0
    """Maximum size of a file's weights in bytes; larger models are split; 0: no limit."""
    force: bool = False
    """Replace existing files."""
    threads: int | None = None
    """Number of compute threads; None: number of cores."""
    offline: bool = False
    """Use the hub's cache only."""
    report: bool = False
    """Measure the files on a text, and save the results as NAME.report.json."""
    report_text: Path | None = None
    """The text; None: the default text."""


def convert(
    source: str | Path,
    out: Path,
    *,
    drafter_source: str | Path | None = None,
    options: Options = Options(),
    progress: Callable[[ConvertProgress], None] = lambda _: None,
) -> list[ConvertedFile]:
    """Convert a checkpoint, or a target and its drafter, to GGUF.

    Writes `NAME-TYPE.gguf`, `mtp-NAME-TYPE.gguf`, `mmproj-NAME-TYPE.gguf`, and with a report
    `NAME.report.json`. Each checkpoint is read once, regardless of the number of quantizations.
    Files are renamed to these names together, after all have been checked and measured; a run that
    fails or is interrupted leaves no files.

    Args:
        source: directory of a checkpoint, or `USER/REPO` on the Hugging Face hub.
        out: directory for the files; created if missing.
        drafter_source: the drafter's checkpoint.
        options: quantizations, names and checks.
        progress: called many times a second.

    Returns:
        The files: those of the target, of the drafter, and projectors.

    Raises:
        LocalmtpError: a checkpoint cannot be converted, a file exists, or the disk is full.
    """
    threads = options.threads or cores()
    try:
        jobs = _plan_jobs(source, out, drafter_source, options)
        report = out / f"{jobs[0].provenance.file_name}{SUFFIX}" if options.report else None
        text = _report_text(jobs[0], options) if report else None
        projectors = _plan_projectors(jobs[0], out, options)
        planned: list[PlannedFile | PlannedProjector] = [
            *(file for job in jobs for file in job.files),
            *projectors,
        ]
        refuse = partial(_refuse_existing, [file.path for file in planned], report, options.force)
        refuse()
        require_disk_space(out, [file.size for file in planned])
        with ConversionRun([file.path for file in planned], threads, progress) as run:
            refuse()  # files written by a run that has just released the lock
            for job in jobs:
                run.write(job, options.part_size)
            for projector in projectors:
                run.write_projector(projector)
            measured = run.measure(text, out) if text else None
            refuse()
            files = run.commit(measured)
        if measured and report:
            measured.save(report)
        return files
    except OSError as error:
        place = error.filename or out
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise LocalmtpError(
            f"cannot write {place}: {error.strerror or error}",
            hint="free some disk space or choose another --out" if full else "choose another --out",
        ) from error


def _plan_jobs(
    source: str | Path, out: Path, drafter_source: str | Path | None, options: Options
) -> list[ConversionJob]:
    if options.name is not None and not _is_file_name(options.name):
        raise LocalmtpError(f"{options.name!r} is not a valid file name")
    imatrix = read_imatrix(options.imatrix) if options.imatrix else None
    quantizations = [
        QuantizationSpec(name, options.overrides, imatrix) for name in _quant_names(options.quants)
    ]
    drafter_quantizations = [
        QuantizationSpec(name) for name in _quant_names(options.drafter_quants)
    ]
    located = locate(source, offline=options.offline)
    provenance = Provenance(
        _file_name_of(located, options.name),
        options.name,
        located.repo,
        options.quantized_by,
        options.license,
    )
    if options.mtp and drafter_source is not None:
        raise LocalmtpError("--mtp writes the head of one checkpoint; give no second one")
    target = HeadPart.WITHOUT_HEAD if options.no_mtp else HeadPart.ALL
    jobs = []
    if options.no_mtp or not options.mtp:
        jobs.append(plan_job(located.directory, provenance, quantizations, out, part=target))
    if options.mtp:
        quants = drafter_quantizations if jobs else quantizations
        head = HeadPart.ONLY_HEAD
        jobs.append(plan_job(located.directory, provenance, quants, out, part=head))
    if drafter_source is not None:
        name = f"{options.name}-assistant" if options.name else None
        located = locate(drafter_source, offline=options.offline)
        provenance = replace(
            provenance, folder=_file_name_of(located, name), name=name, repo=located.repo
        )
        jobs.append(
            plan_job(located.directory, provenance, drafter_quantizations, out, target=jobs[0])
        )
    return jobs


def _is_file_name(name: str) -> bool:
    """Whether files can be named after a model: one visible, printable name of limited length."""
    return (
        0 < len(name.encode(errors="replace")) <= _MAX_NAME_BYTES
        and name.isprintable()
        and name == Path(name).name
        and not name.startswith(".")
    )


def _file_name_of(located: LocatedCheckpoint, name: str | None) -> str:
    """Name of a checkpoint; the given name if files cannot be named after its directory."""
    if _is_file_name(located.name):
        return located.name
    if name is None:
        raise LocalmtpError(
            f"files cannot be named after {str(located.directory)!r}", hint="give a --name"
        )
    return name


def _quant_names(quants: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(quant.upper() for quant in quants))
    for name in names:
        file_type(name)
    return names


def _report_text(target: ConversionJob, options: Options) -> ReportText:
    """Read the report's text, if there will be a target to measure."""
    if target.model.role is not ModelRole.TARGET:
        raise LocalmtpError(
            f"{target.checkpoint.directory} is a drafter, which can only be measured on its target",
            hint="give the target first and the drafter second",
        )
    if not any(fits_memory(file.size) for file in target.files):
        raise LocalmtpError(
            "no file would fit in this machine's memory to be measured",
            hint="add a smaller --quant, or omit --report",
        )
    return read_text(options.report_text)


def _plan_projectors(target: ConversionJob, out: Path, options: Options) -> list[PlannedProjector]:
    planned = []
    for quant in _quant_names(options.mmproj):
        if quant not in PROJECTOR_TYPES:
            raise LocalmtpError(
                f"a projector cannot be written as {quant}",
                hint=f"supported: {', '.join(PROJECTOR_TYPES)}",
            )
        projector = target.model.projector(target.checkpoint, target.provenance)
        path = projector.path(out, quant)
        planned.append(PlannedProjector(projector, quant, path, projector.size(quant)))
    return planned


def _refuse_existing(paths: Sequence[Path], report: Path | None, force: bool) -> None:
    if not force:
        refuse_existing([found for path in paths for found in existing_files(path)])
        refuse_existing([report] if report is not None and report.exists() else [])
