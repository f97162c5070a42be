"""From checkpoints to checked GGUF files."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from localmtp.convert.huggingface.metadata import Origin
from localmtp.convert.huggingface.source import locate
from localmtp.convert.output.quantize import Recipe, file_type
from localmtp.convert.output.stream import Output, stream
from localmtp.convert.output.writer import (
    GgufFile,
    WrittenFile,
    existing,
    remove_unfinished,
    require_room,
)
from localmtp.convert.plan import Job, PlannedFile, plan
from localmtp.convert.projector import TYPES, Projector
from localmtp.convert.quality.check import check
from localmtp.convert.quality.imatrix import read_imatrix
from localmtp.convert.quality.measure import Text, fits_memory, measure, read_text
from localmtp.convert.quality.report import SUFFIX, DrafterScore, TargetScore
from localmtp.errors import LocalmtpError
from localmtp.hardware.cpu import cores

Scores = Mapping[str, TargetScore | DrafterScore]
"""By the file's name."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert."""

    quants: Sequence[str] = ("Q4_K_M",)
    """Quantizations of the target, or of a drafter given alone."""
    drafter_quants: Sequence[str] = ("Q8_0",)
    """Quantizations of the drafter of a pair."""
    name: str | None = None
    """What to call the model, in its files' names and inside; None: as its folder is called."""
    overrides: Sequence[tuple[str, str]] = ()
    """(regular expression on tensor names, type), for single tensors of what `quants` is for."""
    imatrix: Path | None = None
    """Importance matrix for what `quants` is for."""
    quantized_by: str | None = None
    license: str | None = None
    """Of the weights, as the hub abbreviates it; None: as the model card says."""
    mmproj: Sequence[str] = ()
    """Types to write the target's towers for images and sound in: F16, BF16, F32."""
    part_size: int = 0
    """Most bytes of weights in one file: a larger model becomes several; 0: no limit."""
    force: bool = False
    """Replace files that are there already."""
    threads: int | None = None
    """None: as many as there are cores."""
    offline: bool = False
    """Do not ask the hub for newer files."""
    report: bool = False
    """Measure the files on a text, and keep the figures beside them."""
    report_text: Path | None = None
    """The text; None: the one that ships."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is."""

    path: Path
    """The checkpoint that is being written, or the file that is being checked or measured."""
    done: int
    total: int
    """Bytes of the checkpoint, or steps of measuring; both 0 while checking."""
    in_bytes: bool = True


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A finished model."""

    parts: Sequence[WrittenFile]
    """One file, or several where the model was to be split."""
    quant: str
    drafter: bool
    bits_per_weight: float
    projector: bool = False
    """Towers for images and sound, which libllama does not run: written without a check."""
    score: TargetScore | DrafterScore | None = None
    """What it was measured to do; None without a report, and for what does not fit memory."""

    @property
    def path(self) -> Path:
        """What to open: the file, or the first part."""
        return self.parts[0].path


def convert(
    source: str | Path,
    out: Path,
    *,
    drafter_source: str | Path | None = None,
    options: Options = Options(),
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[ConvertedFile]:
    """Convert a checkpoint, or a target and its drafter, to GGUF.

    Files are called `NAME-TYPE.gguf`, `mtp-NAME-TYPE.gguf` and `mmproj-NAME-TYPE.gguf`, a report
    `NAME.report.json`. Each checkpoint is read once, whatever the number of quantizations. The
    files get their names together, when all have been checked and measured; a run that ends before
    leaves nothing.

    Args:
        source: a checkpoint's directory, or `USER/REPO` on the Hugging Face hub.
        out: the directory for the files; made when missing.
        drafter_source: the drafter's checkpoint.
        options: what to make.
        progress: is told how far it is, many times a second.

    Returns:
        The files, the target's first.

    Raises:
        LocalmtpError: a checkpoint cannot be converted, a file is in the way, or the disk is full.
    """
    threads = options.threads or cores()
    try:
        jobs = _plan_jobs(source, out, drafter_source, options)
        report = out / f"{jobs[0].origin.file_name}{SUFFIX}" if options.report else None
        text = _text_to_measure_on(jobs[0], options) if report else None
        projectors = _plan_projectors(jobs[0], out, options)
        models = [file for job in jobs for file in job.files]
        _require_place([*models, *projectors], out, report, force=options.force)
        with ExitStack() as unnamed:
            finished: list[_Finished] = []
            for job in jobs:
                smallest = min(finished, key=lambda file: file.bits_per_weight, default=None)
                target = smallest.path if smallest else None
                finished += _write(job, target, options.part_size, threads, progress, unnamed)
            finished += [_write_projector(planned, progress, unnamed) for planned in projectors]
            scores: Scores = {}
            if report and text:
                scores = _measure(finished, text, report, threads, progress)
            return [file.give_name(scores) for file in finished]
    except OSError as error:
        place = error.filename or out
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise LocalmtpError(
            f"cannot write {place}: {error.strerror or error}",
            hint="free some space or choose another --out" if full else "choose another --out",
        ) from error


def _plan_jobs(
    source: str | Path, out: Path, drafter_source: str | Path | None, options: Options
) -> list[Job]:
    if (name := options.name) is not None and not (
        name and name.isprintable() and name == Path(name).name and not name.startswith(".")
    ):
        raise LocalmtpError(f"{name!r} is not a name for a file")
    imatrix = read_imatrix(options.imatrix) if options.imatrix else None
    recipes = [Recipe(name, options.overrides, imatrix) for name in _quant_names(options.quants)]
    drafter_recipes = [Recipe(name) for name in _quant_names(options.drafter_quants)]
    located = locate(source, offline=options.offline)
    origin = Origin(located.name, options.name, located.repo, options.quantized_by, options.license)
    jobs = [plan(located.directory, origin, recipes, out)]
    if drafter_source is not None:
        name = f"{options.name}-assistant" if options.name else None
        located = locate(drafter_source, offline=options.offline)
        origin = replace(origin, folder=located.name, name=name, repo=located.repo)
        jobs.append(plan(located.directory, origin, drafter_recipes, out, jobs[0]))
    return jobs


def _quant_names(quants: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(quant.upper() for quant in quants))
    for name in names:
        file_type(name)
    return names


def _text_to_measure_on(target: Job, options: Options) -> Text:
    """The text, when there will be something to measure on it."""
    if target.spec.backbone is not None:
        raise LocalmtpError(
            f"{target.checkpoint.directory} is a drafter, which is measured on its target",
            hint="give the target first and the drafter second",
        )
    if not any(fits_memory(file.size) for file in target.files):
        raise LocalmtpError(
            "none of the files would fit this machine's memory to be measured",
            hint="add a smaller --quant, or leave --report out",
        )
    return read_text(options.report_text)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A model that is whole and has not got its name yet."""

    file: GgufFile
    quant: str
    drafter: bool
    bits_per_weight: float
    projector: bool = False

    @property
    def path(self) -> Path:
        """Where it is until then."""
        return self.file.parts[0]

    def give_name(self, scores: Scores) -> ConvertedFile:
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


def _plan_projectors(target: Job, out: Path, options: Options) -> list[_PlannedProjector]:
    planned = []
    for quant in _quant_names(options.mmproj):
        if quant not in TYPES:
            raise LocalmtpError(
                f"a projector is not quantized to {quant}", hint=f"there are: {', '.join(TYPES)}"
            )
        projector = Projector(target.checkpoint, target.spec.hidden, target.origin)
        path = projector.path(out, quant)
        planned.append(_PlannedProjector(projector, quant, path, projector.size(quant)))
    return planned


def _write_projector(
    planned: _PlannedProjector, progress: Callable[[Progress], None], unnamed: ExitStack
) -> _Finished:
    done = 0
    file = unnamed.enter_context(GgufFile(planned.path, planned.projector.writer(planned.quant)))
    for data in planned.projector.data(planned.quant):
        file.write(data)
        done += data.nbytes
        progress(Progress(planned.path, done, planned.size))
    file.finish()
    bits = planned.size * 8 / planned.projector.weights
    return _Finished(file, planned.quant, False, bits, projector=True)


def _require_place(
    files: Sequence[PlannedFile | _PlannedProjector],
    out: Path,
    report: Path | None,
    *,
    force: bool,
) -> None:
    in_the_way = [path for file in files for path in existing(file.path)]
    if report is not None and report.exists():
        in_the_way.append(report)
    for path in in_the_way:
        if not force:
            raise LocalmtpError(f"{path} exists already", hint="--force replaces it")
    for file in files:
        remove_unfinished(file.path)
    require_room(out, [file.size for file in files])
    out.mkdir(parents=True, exist_ok=True)


def _write(
    job: Job,
    target: Path | None,
    part_size: int,
    threads: int,
    progress: Callable[[Progress], None],
    unnamed: ExitStack,
) -> list[_Finished]:
    """Write and check the files of one checkpoint, all in one pass."""
    models = [
        unnamed.enter_context(GgufFile(file.path, job.writer(file, part_size)))
        for file in job.files
    ]
    outputs = [
        Output(model, file.types, file.recipe.importance)
        for model, file in zip(models, job.files, strict=True)
    ]
    done = 0
    with closing(stream(job.tensors, outputs, threads)) as sizes:
        for size in sizes:
            done += size
            progress(Progress(job.checkpoint.directory, done, job.size))
    finished = []
    for model, file in zip(models, job.files, strict=True):
        model.finish()
        progress(Progress(file.path, 0, 0))
        check(model.parts[0], threads, target)
        bits = file.size * 8 / job.weights
        finished.append(_Finished(model, file.recipe.name, job.spec.backbone is not None, bits))
    return finished


def _measure(
    finished: Sequence[_Finished],
    text: Text,
    path: Path,
    threads: int,
    progress: Callable[[Progress], None],
) -> Scores:
    """The files' scores, which are written to `path` as well."""
    measured = [
        file
        for file in finished
        if not file.projector and fits_memory(sum(part.stat().st_size for part in file.file.parts))
    ]
    measured.sort(key=lambda file: file.bits_per_weight, reverse=True)
    report = measure(
        [(file.path, file.quant) for file in measured if not file.drafter],
        [(file.path, file.quant) for file in measured if file.drafter],
        text,
        path.parent,
        threads,
        lambda file, done, total: progress(Progress(file, done, total, in_bytes=False)),
    )
    report.save(path)
    scores: list[TargetScore | DrafterScore] = [*report.targets, *report.drafters]
    return {score.file: score for score in scores}
