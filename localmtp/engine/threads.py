"""How many threads compute, where other programs use the processor too.

libllama's threads wait for each other after every operation, hundreds of times in a pass. When one
of them has lost its core to another program, all others wait until that one's time slice is over:
with as many threads as cores and every core in demand, a pass of half a millisecond was seen to
take 0.9 s, where a single thread was as fast as on an idle machine. So threads are never more than
the cores that can be had.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

Usage = tuple[float, float]
"""Seconds of computing since some moment: by this process, all threads together; and left idle, by
all cores together that it may use."""

_WINDOW_S = 0.25
"""Between looks: two dozen ticks of the clocks that systems count idle time with."""

_PAUSE_S = 0.1
"""Without a pass, after which what happened is no sign of what passes can have."""

_TAKEN, _LEAST_TAKEN = 1.2, 0.25
"""A core that others take for a part of the time slows all threads by about that part (of two, by
30 to 40 % where one is taken for half of the time, by 70 % where it is taken throughout); giving it
up costs its share of the computing. So of n it is given up from 1.2 / n on, and not for less than
clocks can tell."""

_FREE = 0.6
"""Of that, what others may take of a core that is taken back: in between nothing changes."""

_SURE = 2
"""Looks in a row that must show it free: one core too many costs far more than one too few."""


class Threads:
    """Chooses how many threads compute, from what could be had lately.

    Args:
        most: never more.
        usage: asked for what the processor did; None: always `most`.
        clock: seconds.

    Cores that could be had are those that this process computed on and those that were left idle.
    """

    def __init__(
        self,
        most: int,
        usage: Callable[[], Usage] | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.most = most
        self.count = most
        """How many compute now."""
        self._usage, self._clock = usage, clock
        self._followers: list[Callable[[int], None]] = []
        self._sure = 0
        self._latest = 0.0
        self._window = 0.0, 0.0, 0.0  # began; usage then
        self.restart()

    def follow(self, follower: Callable[[int], None]) -> None:
        """Tell another of the number of threads, now and whenever it changes."""
        self._followers.append(follower)
        follower(self.count)

    def now(self) -> int:
        """How many compute now."""
        return self.count

    def restart(self) -> None:
        """Passes begin again: unless they hardly paused, look from now on."""
        now = self._clock()
        if self._usage and now - self._latest > _PAUSE_S:
            self._window = now, *self._usage()
        self._latest = now

    def look(self) -> None:
        """After a pass, or after loading: choose anew, if it is time."""
        self._latest = now = self._clock()
        began, own, idle = self._window
        elapsed = now - began
        if self._usage is None or elapsed < _WINDOW_S:
            return
        self._window = now, *self._usage()
        self._choose((self._window[1] - own + self._window[2] - idle) / elapsed)

    def _choose(self, free: float) -> None:
        """Choose for so many cores that could be had."""
        count = self.count
        while count > 1 and free < count - _bearable(count):
            count -= 1
        if count == self.count:
            while count < self.most and free >= count + 1 - _FREE * _bearable(count + 1):
                count += 1
            self._sure = self._sure + 1 if count > self.count else 0
            if self._sure < _SURE:
                return
        self._sure = 0
        if count != self.count:
            self.count = count
            for follower in self._followers:
                follower(count)


def _bearable(count: int) -> float:
    """Of the last of so many cores, what others may take."""
    return max(_LEAST_TAKEN, _TAKEN / count)
