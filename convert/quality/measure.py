"""Measurement of all files of a conversion on one text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from localmtp.convert.quality.acceptance import score_drafter
from localmtp.convert.quality.divergence import score_targets
from localmtp.convert.quality.report import Report
from localmtp.errors import LocalmtpError
from localmtp.hardware.memory import main_memory

_DEFAULT = "default"
_MAX_CHARACTERS = 1 << 20
"""Characters that are read of a text, of which the first 8,192 tokens count."""


@dataclass(frozen=True, slots=True)
class ReportText:
    """A text that files are measured on."""

    name: str
    """`default`, or a file name."""
    content: str


def fits_memory(size: int) -> bool:
    """Whether a file of `size` bytes can be run and leave memory for other programs."""
    return size < 0.7 * main_memory().total


def read_text(path: Path | None) -> ReportText:
    """Read a text file; None: the default text (prose, dialogue, code, sums, four languages).

    Raises:
        LocalmtpError: the file cannot be read, or is not UTF-8.
    """
    if path is None:
        default = resources.files("localmtp.convert.quality") / "default_text.txt"
        return ReportText(_DEFAULT, default.read_text("utf-8"))
    try:
        with path.open(encoding="utf-8") as file:
            return ReportText(path.name, file.read(_MAX_CHARACTERS))
    except (OSError, UnicodeDecodeError) as error:
        raise LocalmtpError(
            f"cannot read {path}: {error}", hint="give a text file in UTF-8"
        ) from error


def measure_files(
    targets: Sequence[tuple[Path, str]],
    drafters: Sequence[tuple[Path, str]],
    text: ReportText,
    scratch: Path,
    threads: int,
    progress: Callable[[Path, int, int], None],
    *,
    heads: bool = False,
) -> Report:
    """Measure files on the CPU; the first target is the reference, on which drafters run.

    Args:
        targets: (file, quantization), the most precise one first.
        drafters: (file, quantization) in any order.
        text: text to measure on.
        scratch: directory for a temporary file with the reference's distributions.
        threads: number of compute threads.
        progress: called with the file, steps done, and total steps.
        heads: whether the targets have an MTP head, which is measured on its own file.

    Raises:
        LocalmtpError: the text is too short, a file cannot be run, or the disk is full.
    """
    positions, scores = score_targets(targets, text.content, scratch, threads, progress)
    reference = targets[0][0]
    pairs = [(file, reference) for file in drafters]
    pairs += [(file, file[0]) for file in targets if heads]
    return Report(
        text.name,
        positions,
        reference.name,
        scores,
        [score_drafter(file, on, text.content, threads, progress) for file, on in pairs],
    )
