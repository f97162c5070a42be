"""One run of the converter: files are written, checked, measured, and then renamed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from localmtp.convert.architectures.base import ModelRole
from localmtp.convert.job import ConversionJob
from localmtp.convert.output.gguf_file import GgufFile, WorkFolder, WrittenFile
from localmtp.convert.output.load_check import check_runs
from localmtp.convert.output.stream import OutputFile, stream_tensors
from localmtp.convert.projector import PlannedProjector
from localmtp.convert.quality.measure import ReportText, fits_memory, measure_files
from localmtp.convert.quality.report import DrafterScore, Report, TargetScore


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
    head_score: DrafterScore | None = None
    """Result of the report for the MTP head in a target."""

    @property
    def path(self) -> Path:
        """The file to load: the only one, or the first part."""
        return self.parts[0].path


@dataclass(frozen=True, slots=True)
class _PendingModel:
    """A complete model under its temporary name."""

    file: GgufFile
    quant: str
    drafter: bool
    bits_per_weight: float
    projector: bool = False
    head: bool = False
    """Whether it is a target with an MTP head."""

    @property
    def path(self) -> Path:
        """Temporary path of the file, or of the first part."""
        return self.file.parts[0]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.stat().st_size for part in self.file.parts)


class ConversionRun:
    """Writes models in locked work folders until `commit` renames them.

    Leaving the context without `commit` leaves no files.

    Args:
        paths: final paths of all models of the run.
        threads: number of compute threads.
        progress: called many times a second.

    Raises:
        LocalmtpError: on entering, if another run is writing one of the files.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        threads: int,
        progress: Callable[[ConvertProgress], None],
    ) -> None:
        self._folders = {path: WorkFolder(path) for path in paths}
        self._threads = threads
        self._progress = progress
        self._stack = ExitStack()
        self._pending: list[_PendingModel] = []

    def __enter__(self) -> Self:
        with self._stack:
            for folder in self._folders.values():
                self._stack.enter_context(folder)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write(self, job: ConversionJob, part_size: int) -> None:
        """Write the files of one checkpoint in one pass, and check them.

        A drafter is checked on the smallest target written before, a head in the file on its own.

        Args:
            job: the checkpoint and its files.
            part_size: maximum size of a part's tensors in bytes; 0: do not split.

        Raises:
            LocalmtpError: a weight cannot be encoded, or libllama cannot run a file.
        """
        smallest = min(self._pending, key=lambda model: model.bits_per_weight, default=None)
        models = [
            self._stack.enter_context(
                GgufFile(self._folders[file.path], job.writer(file, part_size))
            )
            for file in job.files
        ]
        outputs = [
            OutputFile(model, file.types, file.quantization.importance)
            for model, file in zip(models, job.files, strict=True)
        ]
        done = 0
        with closing(stream_tensors(job.tensors, outputs, self._threads)) as sizes:
            for size in sizes:
                done += size
                self._progress(ConvertProgress(job.checkpoint.directory, done, job.size))
        drafter = job.model.role is not ModelRole.TARGET
        for model, file in zip(models, job.files, strict=True):
            model.finish()
            self._progress(ConvertProgress(file.path, 0, 0))
            target = smallest.path if smallest else None
            if job.model.has_head:
                target = model.parts[0]
            check_runs(model.parts[0], self._threads, target)
            bits = file.size * 8 / job.weights
            quant, head = file.quantization.name, job.model.has_head
            self._pending.append(_PendingModel(model, quant, drafter, bits, head=head))

    def write_projector(self, planned: PlannedProjector) -> None:
        """Write a multimodal projector; it is not checked.

        Raises:
            LocalmtpError: a weight cannot be encoded.
        """
        file = self._stack.enter_context(
            GgufFile(self._folders[planned.path], planned.projector.writer(planned.quant))
        )
        done = 0
        for data in planned.projector.data(planned.quant):
            file.write(data)
            done += data.nbytes
            self._progress(ConvertProgress(planned.path, done, planned.size))
        file.finish()
        bits = planned.size * 8 / planned.projector.weights
        self._pending.append(_PendingModel(file, planned.quant, False, bits, projector=True))

    def measure(self, text: ReportText, scratch: Path) -> Report:
        """Measure the files that fit in memory on a text.

        Args:
            text: text to measure on.
            scratch: directory for a temporary file.

        Raises:
            LocalmtpError: the text is too short, or a file cannot be run.
        """
        models = [
            model for model in self._pending if not model.projector and fits_memory(model.size)
        ]
        models.sort(key=lambda model: model.bits_per_weight, reverse=True)
        return measure_files(
            [(model.path, model.quant) for model in models if not model.drafter],
            [(model.path, model.quant) for model in models if model.drafter],
            text,
            scratch,
            self._threads,
            lambda file, done, total: self._progress(
                ConvertProgress(file, done, total, in_bytes=False)
            ),
            heads=any(model.head for model in models),
        )

    def commit(self, report: Report | None) -> list[ConvertedFile]:
        """Rename all files to their final names.

        Args:
            report: scores to add to the result.
        """
        scores: dict[str, TargetScore | DrafterScore] = {}
        drafting: dict[str, DrafterScore] = {}
        if report:
            drafting = {score.file: score for score in report.drafters}
            scores = {**drafting, **{score.file: score for score in report.targets}}
        return [
            ConvertedFile(
                model.file.commit(),
                model.quant,
                model.drafter,
                model.bits_per_weight,
                model.projector,
                scores.get(model.path.name),
                drafting.get(model.path.name) if model.head else None,
            )
            for model in self._pending
        ]
