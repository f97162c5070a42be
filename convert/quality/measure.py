"""The report of a conversion: every file of the run on one text."""

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


@dataclass(frozen=True, slots=True)
class Text:
    """What files are measured on."""

    name: str
    content: str


def fits_memory(size: int) -> bool:
    """Whether a file of `size` bytes can be run beside what else a machine does."""
    return size < 0.7 * main_memory().total


def read_text(path: Path | None) -> Text:
    """A text file, or the one that ships: prose, dialogue, code, sums, four languages.

    Raises:
        LocalmtpError: it cannot be read.
    """
    if path is None:
        shipped = resources.files("localmtp.convert.quality") / "report.txt"
        return Text(_DEFAULT, shipped.read_text("utf-8"))
    try:
        return Text(path.name, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LocalmtpError(f"cannot read {path}: {error}", hint="give a text in UTF-8") from error


def measure(
    targets: Sequence[tuple[Path, str]],
    drafters: Sequence[tuple[Path, str]],
    text: Text,
    scratch: Path,
    threads: int,
    progress: Callable[[Path, int, int], None],
) -> Report:
    """Measure files, on the CPU.

    Args:
        targets: (file, quantization), the most precise one first.
        drafters: the same of drafters, in any order.
        text: what to measure on.
        scratch: a directory with room for the reference's distributions.
        threads: to run them on.
        progress: is told the file, and how far it is.

    Raises:
        LocalmtpError: the text is too short, a file cannot be run, or the disk is full.
    """
    positions, scores = score_targets(targets, text.content, scratch, threads, progress)
    reference = targets[0][0]
    return Report(
        text.name,
        positions,
        reference.name,
        scores,
        [score_drafter(file, reference, text.content, threads, progress) for file in drafters],
    )
