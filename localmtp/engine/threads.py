"""Number of compute threads, adapted to other programs that use the processor.

libllama's threads wait for each other after every operation, hundreds of times per pass. If one of
them loses its core to another program, the others wait until that program's time slice ends: with
as many threads as cores on a fully loaded machine, a pass of 0.5 ms took up to 0.9 s, while one
thread was as fast as on an idle machine. So there are never more threads than available cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Usage = tuple[float, float]
"""Seconds of processor time since some moment: used by this process, all threads together, and
left idle, on all cores that it may use."""

_WINDOW_S = 0.25
"""Shortest time between measurements: two dozen ticks of the clocks that count idle time."""

_FIRST_WINDOW_S = 0.1
"""Shortest time before the first measurement. It delays the first pass of small models, which load
faster than this; without it, that pass has taken 1.85 s on a loaded machine, instead of 0.03 s."""

_PAUSE_S = 0.1
"""Time without a pass after which a measurement starts again: idle time of a pause does not show
what passes can use."""

_TAKEN, _LEAST_TAKEN = 1.2, 0.25
"""Share of one core that other programs may take before it is given up: 1.2 / n of n cores, at
least 0.25. A core that is taken for a part of the time slows all threads by about that part (of
two, by 30 to 40 % at half of the time, by 70 % throughout); giving it up costs 1 / n."""

_FREE = 0.6
"""Factor on that share below which a core is taken back; between the two nothing changes."""

_CONFIRMATIONS = 2
"""Measurements in a row that must show a core free: one core too many costs far more than one too
few."""


class Threads:
    """Chooses the number of compute threads from recently available cores.

    Available cores are those on which this process computed and those that were idle.

    Args:
        most: largest number.
        usage: measures the processor; None: always `most` threads.
        clock: seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        most: int,
        usage: Callable[[], Usage] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.most = most
        self.count = most
        """Current number."""
        self._usage = usage if most > 1 else None
        self._clock, self._sleep = clock, sleep
        self._followers: list[Callable[[int], None]] = []
        self._confirmed = 0
        self._latest = clock()
        """Time of the last pass."""
        self._window = (self._latest, *usage()) if usage else (self._latest, 0.0, 0.0)
        """Start of the measurement: time, and usage until then."""

    def follow(self, follower: Callable[[int], None]) -> None:
        """Calls `follower` with the number, now and whenever it changes."""
        self._followers.append(follower)
        follower(self.count)

    def set(self, count: int) -> None:
        """Changes the number and calls the followers."""
        self.count = count
        for follower in self._followers:
            follower(count)

    def hold(self) -> None:
        """Keeps the largest number: other programs do not matter where devices compute."""
        self._usage = None
        if self.count != self.most:
            self.set(self.most)

    def settle(self) -> None:
        """Chooses before the first pass; waits if loading was too short to measure."""
        if self._usage is None:
            return
        missing = _FIRST_WINDOW_S - (self._clock() - self._window[0])
        if missing > 0:
            self._sleep(missing)
        self._choose(self._measure(self._usage))

    def restart(self) -> None:
        """Starts a new measurement before a pass, if passes paused.

        Cores that others used during the pause are given up: those programs may still run.
        """
        now = self._clock()
        paused = now - self._latest > _PAUSE_S
        self._latest = now
        if self._usage is None or not paused:
            return
        measurable = now - self._window[0] >= _WINDOW_S
        available = self._measure(self._usage)
        if measurable:
            self._choose(min(available, self.count))

    def look(self) -> None:
        """Chooses after a pass, if the measurement is long enough."""
        self._latest = now = self._clock()
        if self._usage is not None and now - self._window[0] >= _WINDOW_S:
            self._choose(self._measure(self._usage))

    def _measure(self, usage: Callable[[], Usage]) -> float:
        """Returns the average number of available cores, and starts the next measurement."""
        began, own, idle = self._window
        self._window = now, own_now, idle_now = self._clock(), *usage()
        return (own_now - own + idle_now - idle) / max(now - began, 1e-6)

    def _choose(self, available: float) -> None:
        count = self.count
        while count > 1 and available < count - _tolerated(count):
            count -= 1
        if count == self.count:
            while count < self.most and available >= count + 1 - _FREE * _tolerated(count + 1):
                count += 1
            self._confirmed = self._confirmed + 1 if count > self.count else 0
            if self._confirmed < _CONFIRMATIONS:
                return
        self._confirmed = 0
        if count != self.count:
            self.set(count)


def _tolerated(count: int) -> float:
    """Returns the share of the last of `count` cores that other programs may take."""
    return max(_LEAST_TAKEN, _TAKEN / count)
