"""Conversion of checkpoints to GGUF files that have been loaded and run."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from localmtp.convert.huggingface.source import locate
from localmtp.convert.job import ConversionJob, PlannedFile, plan_job
from localmtp.convert.output.gguf_file import (
    GgufFile,
    WrittenFile,
    existing_files,
    remove_unfinished,
    require_disk_space,
)
from localmtp.convert.output.imatrix import read_imatrix
from localmtp.convert.output.load_check import check_runs
from localmtp.convert.output.metadata import Provenance
from localmtp.convert.output.quantize import QuantizationSpec, file_type
from localmtp.convert.output.stream import OutputFile, stream_tensors
from localmtp.convert.projector import PROJECTOR_TYPES, Projector
from localmtp.convert.quality.measure import ReportText, fits_memory, measure_files, read_text
from localmtp.convert.quality.report import SUFFIX, DrafterScore, TargetScore
from localmtp.errors import LocalmtpError
from localmtp.hardware.cpu import cores

Scores = Mapping[str, TargetScore | DrafterScore]
"""By file name."""


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


@dataclass(frozen=True, slots=True)
class ConvertProgress:
    """Progress of a conversion."""

    path: Path
    """The checkpoint being converted, or the file being checked or measured."""
    done: int
    total: int
    """Bytes of the checkpoint, or steps of a measurement; 0 during a check."""
    in_bytes: bool = True
    """Whether `done` and `total` are bytes."""


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A complete model."""

    parts: Sequence[WrittenFile]
    """One file, or the parts of a split model."""
    quant: str
    drafter: bool
    bits_per_weight: float
    projector: bool = False
    """Whether it is a multimodal projector, which libllama does not run: it was not checked."""
    score: TargetScore | DrafterScore | None = None
    """Result of the report; None without a report, and for files that do not fit in memory."""

    @property
    def path(self) -> Path:
        """The file to load: the only one, or the first part."""
        return self.parts[0].path


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
        models = [file for job in jobs for file in job.files]
        _prepare_directory([*models, *projectors], out, report, force=options.force)
        with ExitStack() as files:
            pending: list[_PendingModel] = []
            for job in jobs:
                smallest = min(pending, key=lambda file: file.bits_per_weight, default=None)
                target = smallest.path if smallest else None
                pending += _write(job, target, options.part_size, threads, progress, files)
            pending += [_write_projector(planned, progress, files) for planned in projectors]
            scores: Scores = {}
            if report and text:
                scores = _measure(pending, text, report, threads, progress)
            return [model.commit(scores) for model in pending]
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
    if (name := options.name) is not None and not (
        name and name.isprintable() and name == Path(name).name and not name.startswith(".")
    ):
        raise LocalmtpError(f"{name!r} is not a valid file name")
    imatrix = read_imatrix(options.imatrix) if options.imatrix else None
    quantizations = [
        QuantizationSpec(name, options.overrides, imatrix) for name in _quant_names(options.quants)
    ]
    drafter_quantizations = [
        QuantizationSpec(name) for name in _quant_names(options.drafter_quants)
    ]
    located = locate(source, offline=options.offline)
    provenance = Provenance(
        located.name, options.name, located.repo, options.quantized_by, options.license
    )
    jobs = [plan_job(located.directory, provenance, quantizations, out)]
    if drafter_source is not None:
        name = f"{options.name}-assistant" if options.name else None
        located = locate(drafter_source, offline=options.offline)
        provenance = replace(provenance, folder=located.name, name=name, repo=located.repo)
        jobs.append(plan_job(located.directory, provenance, drafter_quantizations, out, jobs[0]))
    return jobs


def _quant_names(quants: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(quant.upper() for quant in quants))
    for name in names:
        file_type(name)
    return names


def _report_text(target: ConversionJob, options: Options) -> ReportText:
    """Read the report's text, if there will be a target to measure."""
    if target.config.backbone is not None:
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


@dataclass(frozen=True, slots=True)
class _PendingModel:
    """A complete model under its temporary name."""

    file: GgufFile
    quant: str
    drafter: bool
    bits_per_weight: float
    projector: bool = False

    @property
    def path(self) -> Path:
        """Temporary path of the file, or of the first part."""
        return self.file.parts[0]

    def commit(self, scores: Scores) -> ConvertedFile:
        """Rename the file and add its score."""
        return ConvertedFile(
            self.file.commit(),
            self.quant,
            self.drafter,
            self.bits_per_weight,
            self.projector,
            scores.get(self.path.name),
        )


@dataclass(frozen=True, slots=True)
class _PlannedProjector:
    projector: Projector
    quant: str
    path: Path
    size: int


def _plan_projectors(target: ConversionJob, out: Path, options: Options) -> list[_PlannedProjector]:
    planned = []
    for quant in _quant_names(options.mmproj):
        if quant not in PROJECTOR_TYPES:
            raise LocalmtpError(
                f"a projector cannot be written as {quant}",
                hint=f"supported: {', '.join(PROJECTOR_TYPES)}",
            )
        projector = Projector(target.checkpoint, target.config.hidden, target.provenance)
        path = projector.path(out, quant)
        planned.append(_PlannedProjector(projector, quant, path, projector.size(quant)))
    return planned


def _write_projector(
    planned: _PlannedProjector, progress: Callable[[ConvertProgress], None], files: ExitStack
) -> _PendingModel:
    done = 0
    file = files.enter_context(GgufFile(planned.path, planned.projector.writer(planned.quant)))
    for data in planned.projector.data(planned.quant):
        file.write(data)
        done += data.nbytes
        progress(ConvertProgress(planned.path, done, planned.size))
    file.finish()
    bits = planned.size * 8 / planned.projector.weights
    return _PendingModel(file, planned.quant, False, bits, projector=True)


def _prepare_directory(
    files: Sequence[PlannedFile | _PlannedProjector],
    out: Path,
    report: Path | None,
    *,
    force: bool,
) -> None:
    """Refuse existing files and too little disk space; create the directory."""
    existing = [path for file in files for path in existing_files(file.path)]
    if report is not None and report.exists():
        existing.append(report)
    if existing and not force:
        raise LocalmtpError(f"{existing[0]} exists", hint="replace it with --force")
    for file in files:
        remove_unfinished(file.path)
    require_disk_space(out, [file.size for file in files])
    out.mkdir(parents=True, exist_ok=True)


def _write(
    job: ConversionJob,
    target: Path | None,
    part_size: int,
    threads: int,
    progress: Callable[[ConvertProgress], None],
    files: ExitStack,
) -> list[_PendingModel]:
    """Write the files of one checkpoint in one pass, and check them."""
    models = [
        files.enter_context(GgufFile(file.path, job.writer(file, part_size))) for file in job.files
    ]
    outputs = [
        OutputFile(model, file.types, file.quantization.importance)
        for model, file in zip(models, job.files, strict=True)
    ]
    done = 0
    with closing(stream_tensors(job.tensors, outputs, threads)) as sizes:
        for size in sizes:
            done += size
            progress(ConvertProgress(job.checkpoint.directory, done, job.size))
    pending = []
    for model, file in zip(models, job.files, strict=True):
        model.finish()
        progress(ConvertProgress(file.path, 0, 0))
        check_runs(model.parts[0], threads, target)
        bits = file.size * 8 / job.weights
        pending.append(
            _PendingModel(model, file.quantization.name, job.config.backbone is not None, bits)
        )
    return pending


def _measure(
    pending: Sequence[_PendingModel],
    text: ReportText,
    path: Path,
    threads: int,
    progress: Callable[[ConvertProgress], None],
) -> Scores:
    """Measure the files that fit in memory, and save the report to `path`."""
    measured = [
        file
        for file in pending
        if not file.projector and fits_memory(sum(part.stat().st_size for part in file.file.parts))
    ]
    measured.sort(key=lambda file: file.bits_per_weight, reverse=True)
    report = measure_files(
        [(file.path, file.quant) for file in measured if not file.drafter],
        [(file.path, file.quant) for file in measured if file.drafter],
        text,
        path.parent,
        threads,
        lambda file, done, total: progress(ConvertProgress(file, done, total, in_bytes=False)),
    )
    report.save(path)
    scores: list[TargetScore | DrafterScore] = [*report.targets, *report.drafters]
    return {score.file: score for score in scores}
