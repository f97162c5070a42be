"""Loading a pair: what is chosen and reported, and how loading is aborted."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from localmtp.engine.pair import LoadOptions, Pair
from localmtp.models import resolve
from localmtp.session.loading import load_pair
from localmtp.session.local import open_session
from localmtp.session.pacing_store import PacingStore

FILES = resolve("nano")


class AbortedError(Exception):
    pass


def test_the_report_describes_device_and_memory() -> None:
    pair, report = load_pair(FILES, LoadOptions(threads=1, gpu_layers=0))
    with pair:
        assert report.device == "CPU, 1 thread"
        assert set(report.memory) == {"target", "drafter", "cache", "buffers"}
        assert report.memory["target"] >= FILES.target.stat().st_size
        assert report.placement == ""
        assert pair.load_s > 0


def test_progress_is_reported_and_an_exception_in_it_propagates() -> None:
    shares: list[float] = []

    def record(share: float) -> bool:
        shares.append(share)
        return True

    with closing(open_session(FILES, options=LoadOptions(threads=1, progress=record))):
        assert shares[0] < 0.5
        assert shares[-1] == 1.0

    def abort(share: float) -> bool:
        raise AbortedError

    with pytest.raises(AbortedError):
        Pair.load(FILES.target, FILES.drafter, LoadOptions(threads=1, progress=abort))


INTERRUPTED = """
import signal
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.models import resolve

calls = []

def interrupt(share):
    calls.append(share)
    signal.raise_signal(signal.SIGINT)
    return True

files = resolve("nano")
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    Pair.load(files.target, files.drafter, LoadOptions(threads=1, progress=interrupt))
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted after", len(calls))
"""


def test_an_interrupt_aborts_loading_and_is_not_lost_in_a_callback() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "interrupted after 1\n"
    assert ran.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a process")
def test_a_command_interrupted_while_it_imports_and_loads_ends_quietly() -> None:
    for delay_ms in range(0, 900, 150):
        with subprocess.Popen(
            [sys.executable, "-m", "localmtp", "run", "nano", "Count from 1 to 90."],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as command:
            assert command.stderr
            try:
                command.wait(0.2 + delay_ms / 1000)
            except subprocess.TimeoutExpired:
                command.send_signal(signal.SIGINT)
            stderr = command.stderr.read()
        assert b"ignored" not in stderr


def test_what_a_device_chooses_faster_is_measured_once(tmp_path: Path) -> None:
    store = PacingStore(["pair", "device"], tmp_path)
    assert store.load_device_kinds() is None
    store.save_device_kinds(("sampled",))
    assert PacingStore(["pair", "device"], tmp_path).load_device_kinds() == ("sampled",)
    assert PacingStore(["pair", "another"], tmp_path).load_device_kinds() is None
    next(tmp_path.glob("*-device.json")).write_text('{"greedy": 1}')
    assert store.load_device_kinds() is None
