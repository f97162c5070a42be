"""Number of compute threads, on simulated processors and on this one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic

import pytest

from localmtp.cli.commands.run import statistics_line
from localmtp.engine.events import Finished
from localmtp.engine.threads import Threads
from localmtp.hardware.cpu import cores, is_idle
from localmtp.models import resolve
from localmtp.session import Choices
from localmtp.session.local import open_session
from tests.engine.rounds import SingleAnswer


@dataclass
class Processor:
    """Cores that this program's threads share fairly with other programs."""

    cores: int
    others: float = 0.0
    now: float = 0.0
    own: float = 0.0
    idle: float = 0.0
    threads: Threads = field(init=False)

    def __post_init__(self) -> None:
        self.threads = Threads(
            self.cores, lambda: (self.own, self.idle), lambda: self.now, self.rest
        )

    def compute(self, seconds: float, pass_s: float = 0.05) -> int:
        """Runs passes for some seconds and returns the number of threads after them."""
        end = self.now + seconds
        while self.now < end:
            count = self.threads.count
            runnable = count + self.others
            self.now += pass_s
            self.own += pass_s * count * min(1.0, self.cores / runnable)
            self.idle += pass_s * max(0.0, self.cores - runnable)
            self.threads.look()
        return self.threads.count

    def rest(self, seconds: float) -> None:
        self.now += seconds
        self.idle += seconds * max(0.0, self.cores - self.others)


@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_an_idle_machine_computes_with_all_cores(count: int) -> None:
    assert Processor(count).compute(5.0) == count


@pytest.mark.parametrize(("count", "others"), [(2, 1), (2, 2), (2, 8), (8, 1), (8, 4), (8, 16)])
def test_there_are_no_more_threads_than_cores_that_others_leave(count: int, others: int) -> None:
    threads = Processor(count, others).compute(10.0)
    assert 1 <= threads <= max(1, count - others)


def test_a_program_that_computes_occasionally_takes_no_core() -> None:
    assert Processor(8, others=0.2).compute(10.0) == 8


def test_the_first_slow_pass_is_enough() -> None:
    processor = Processor(2, others=2)
    assert processor.compute(0.9, pass_s=0.9) == 1


def test_cores_are_taken_back_when_others_are_done() -> None:
    processor = Processor(8, others=8)
    assert processor.compute(5.0) < 8
    processor.others = 0
    assert processor.compute(5.0) == 8


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("load_s", [0.01, 10.0])
def test_the_first_pass_follows_a_measurement(others: int, load_s: float) -> None:
    processor = Processor(2, others)
    processor.rest(load_s)
    processor.threads.settle()
    assert processor.threads.count == (1 if others else 2)


def test_a_program_that_started_between_answers_takes_cores_from_the_first_pass() -> None:
    processor = Processor(2)
    assert processor.compute(5.0) == 2
    processor.others = 2
    processor.rest(10.0)
    processor.threads.restart()
    assert processor.threads.count == 1


def test_cores_that_were_taken_between_answers_are_taken_back_soon() -> None:
    processor = Processor(2)
    assert processor.compute(5.0) == 2
    processor.others = 2
    processor.rest(60.0)
    processor.others = 0
    processor.threads.restart()
    assert processor.compute(0.6) == 2


def test_a_short_pause_changes_nothing() -> None:
    processor = Processor(2)
    for _ in range(50):
        processor.compute(0.05)
        processor.rest(0.2)
        processor.threads.restart()
        assert processor.threads.count == 2


def test_a_requested_number_is_constant() -> None:
    threads = Threads(3)
    counts: list[int] = []
    threads.follow(counts.append)
    threads.look()
    assert counts == [3]


def test_costs_are_measured_for_each_number_of_threads() -> None:
    answer = SingleAnswer()
    Processor(2).threads.follow(answer.costs.set_threads)

    def measure(seconds: float) -> float:
        for _ in range(50):
            answer.begin(4)
            answer.draft([0.0] * 4)
            answer.end(0, 0.0, seconds)
        return answer.costs.plain_tokens_per_s

    assert measure(1.0) == pytest.approx(1.0, rel=0.5)
    answer.costs.set_threads(1)
    assert not answer.costs.plain_tokens_per_s
    assert measure(4.0) == pytest.approx(0.25, rel=0.5)
    answer.costs.set_threads(2)
    assert answer.costs.plain_tokens_per_s == pytest.approx(1.0, rel=0.5)
    assert measure(2.0) == pytest.approx(0.5, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/stat")
def test_a_program_that_computes_is_noticed_at_once() -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1
    )
    try:
        assert other.stdout
        other.stdout.readline()
        assert not all(is_idle() for _ in range(50))
    finally:
        other.kill()
        other.communicate()


@pytest.mark.skipif(cores() < 2, reason="one core has one thread")
def test_answers_use_fewer_threads_on_a_loaded_machine() -> None:
    burn = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(burn) for _ in range(cores())]
    try:
        finished = next(filter(_is_careful, _answers()))
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert finished.stats.most_threads == cores()
    assert f"of {cores()} threads: the processor is busy" in statistics_line(finished)


def _answers() -> Iterator[Finished]:
    """Answers for at most a minute."""
    until = monotonic() + 60
    with closing(open_session(resolve("nano"), Choices(n_draft=0, temperature=0.0))) as session:
        while monotonic() < until:
            session.messages.clear()
            *_, finished = session.ask("Count from 1 to 150.")
            assert isinstance(finished, Finished)
            yield finished


def _is_careful(finished: Finished) -> bool:
    return finished.stats.threads < cores()


def test_threads_are_not_given_up_where_devices_compute() -> None:
    processor = Processor(4, others=4)
    assert processor.compute(2.0) < 4
    processor.threads.hold()
    assert processor.compute(2.0) == 4
