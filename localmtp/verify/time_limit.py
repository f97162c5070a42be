"""A time limit for all checks, and their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a check, after each of its answers or prompts."""

    check: str
    done: int
    total: int
    elapsed_s: float
    """Seconds since the check began."""
    limit_s: float
    """Seconds that it may take; infinite without a limit."""


class Stage:
    """One check, which stops between two of its items when its time has passed.

    The item in progress is completed, and the first one always runs: items that take long are
    neither cut nor dropped, which would favor answers whose drafts were accepted.

    Args:
        check: display name.
        limit_s: seconds.
        report: called after every item.
        skipped: whether an earlier check was interrupted, so that this one has no items.
    """

    def __init__(
        self,
        check: str = "",
        limit_s: float = inf,
        report: Callable[[Progress], object] = lambda _: None,
        *,
        skipped: bool = False,
    ) -> None:
        self.check = check
        self.done = 0
        """Number of completed items."""
        self.total = 0
        self.cut = False
        """Whether time passed before all items were completed."""
        self.interrupted = skipped
        """Whether Ctrl-C ended this check, or an earlier one."""
        self._limit_s = limit_s
        self._report = report

    def each(self, items: Sequence[T]) -> Iterator[T]:
        """Yields items while there is time."""
        began = monotonic()
        self.total = len(items)
        if self.interrupted:
            return
        for item in items:
            if self.done and monotonic() - began >= self._limit_s:
                self.cut = True
                return
            yield item
            self.done += 1
            elapsed = monotonic() - began
            self._report(Progress(self.check, self.done, self.total, elapsed, self._limit_s))

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """A context that Ctrl-C leaves, with the results of the completed items."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True


class TimeLimit:
    """Divides the time among checks; what one does not need goes to those after it.

    Args:
        seconds: for all checks; infinite for no limit.
        shares: weight of each check in the division, in the order in which they run.
        report: called after every item of a check.
    """

    def __init__(
        self, seconds: float, shares: dict[str, float], report: Callable[[Progress], object]
    ) -> None:
        self._ends = monotonic() + seconds
        self._shares = dict(shares)
        self._report = report
        self.stages: list[Stage] = []
        """Checks that began."""

    def next(self) -> Stage:
        """Returns the next check, with its share of the time that is left."""
        part, rest = next(iter(self._shares.items())), sum(self._shares.values())
        del self._shares[part[0]]
        left = max(0.0, self._ends - monotonic())
        skipped = any(stage.interrupted for stage in self.stages)
        stage = Stage(part[0], left * part[1] / rest, self._report, skipped=skipped)
        self.stages.append(stage)
        return stage
