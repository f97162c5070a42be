"""Progress and results of conversions on the terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli import output
from localmtp.cli.table import table

if TYPE_CHECKING:
    from localmtp.convert import ConvertedFile, ConvertProgress


class ProgressBar:
    """A progress bar on standard error for each checkpoint or file; hidden if it is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._path: Path | None = None
        self._done = 0

    def __call__(self, progress: ConvertProgress) -> None:
        """Update the bar."""
        if progress.path != self._path:
            self.close()
            self._path = progress.path
            if progress.total:
                self._bar = click.progressbar(
                    length=progress.total,
                    label=output.visible(progress.path.name),
                    file=sys.stderr,
                    hidden=not output.shows_progress(),
                    item_show_func=lambda done: done,
                    update_min_steps=max(1, progress.total // 1000),
                )
        if self._bar is not None:
            describe = readable_size if progress.in_bytes else str
            done = f"{describe(progress.done)} of {describe(progress.total)}"
            self._bar.update(progress.done - self._done, done)
            self._done = progress.done

    def close(self) -> None:
        """Finish the current bar."""
        if self._bar is not None:
            self._bar.render_finish()
        self._bar, self._done = None, 0


def print_table(files: Sequence[ConvertedFile]) -> None:
    """Print path, size, bits per weight and hash of every file."""
    width = max(len(str(part.path)) for file in files for part in file.parts)
    output.line(f"{'file':{width}}  {'size':>9}  {'bits/weight':>11}  sha256")
    for file in files:
        bits = f"{file.bits_per_weight:.2f}"
        for part in file.parts:
            named = f"{part.path!s:{width}}  {readable_size(part.size):>9}"
            output.line(f"{named}  {bits:>11}  {part.sha256}")


def print_scores(files: Sequence[ConvertedFile]) -> None:
    """Print the report: one table of targets, one of drafters."""
    from localmtp.convert.quality.report import (
        TARGET_COLUMNS,
        DrafterScore,
        TargetScore,
        drafter_columns,
    )

    output.line()
    scores = [score for file in files for score in (file.score, file.head_score)]
    table(TARGET_COLUMNS, [score.row() for score in scores if isinstance(score, TargetScore)])
    if drafters := [score for score in scores if isinstance(score, DrafterScore)]:
        output.line()
        table(drafter_columns(drafters), [score.row() for score in drafters])


def print_next_command(target: Path) -> None:
    """Print the command that runs a target."""
    output.line(f"\nRun it:\n  localmtp run {shlex.quote(str(target))}")


def readable_size(size: float) -> str:
    """Format a size in bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
