"""Progress bars of downloads."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from localmtp.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from localmtp.models.store.download import TransferProgress


class DownloadProgress:
    """Bars on standard error from the first download on; none if that is not a terminal.

    A context manager, passed as `progress`.
    """

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._files: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, progress: TransferProgress) -> None:
        """Update the bars."""
        if self._bars is None:
            self._bars = _started_bars()
            self._files[""] = self._bars.add_task("total", total=progress.total_in_all)
        if progress.file not in self._files:
            name = output.visible(progress.file.rpartition("/")[2])
            self._files[progress.file] = self._bars.add_task(name, total=progress.total)
        self._bars.update(self._files[progress.file], completed=progress.done)
        self._bars.update(self._files[""], completed=progress.done_in_all)


def _started_bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not output.shows_progress(),
    )
    bars.start()
    return bars
