"""A conversion that ends early leaves no files, and the same command succeeds afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from localmtp.convert import ConvertProgress, Options, convert
from tests.convert.checkpoints import write_checkpoint
from tests.convert.test_command import localmtp
from tests.models.test_faults import LIMITED

FILES = ["mtp-tiny-F32.gguf", "tiny-Q4_0.gguf"]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Command that converts a pair; the drafter is the larger file."""
    target = write_checkpoint(tmp_path / "tiny", "E2B")
    drafter = write_checkpoint(tmp_path / "tiny-assistant", "E2B-assistant")
    types = ["--quant", "Q4_0", "--drafter-quant", "F32"]
    return ["convert", str(target), str(drafter), "--out", str(tmp_path / "out"), *types]


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


@pytest.mark.parametrize("missing", [1, 5_000, 500_000])
def test_a_full_disk_leaves_no_file(tmp_path: Path, missing: int) -> None:
    source = write_checkpoint(tmp_path / "tiny-assistant", "E2B-assistant")
    [file] = convert(source, tmp_path, options=Options(["Q8_0"]))
    size = file.path.stat().st_size - missing
    command = ["convert", str(source), "--out", str(tmp_path / "out"), "--quant", "Q8_0"]
    limited = [sys.executable, "-c", LIMITED, str(size), *command]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert names(tmp_path / "out") == []


def test_a_disk_that_fills_at_the_drafter_leaves_no_target(
    tmp_path: Path, command: list[str]
) -> None:
    limited = [sys.executable, "-c", LIMITED, "2000000", *command]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2), done.stderr
    assert "cannot write" in done.stderr
    assert names(tmp_path / "out") == []
    done = localmtp(*command)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == FILES
    sizes = [(tmp_path / "out" / name).stat().st_size for name in FILES]
    assert sizes[0] > 2_000_000 > sizes[1]


def test_a_run_killed_at_the_drafter_can_be_repeated(tmp_path: Path, command: list[str]) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "localmtp", *command])
    while not list(out.glob(".mtp-*")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert all(name.startswith(".") for name in names(out))
    done = localmtp(*command)
    assert done.returncode == 0, done.stderr
    assert names(out) == FILES


def test_an_interrupted_measurement_leaves_no_file(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", "E2B")
    measured = []

    def interrupt(progress: ConvertProgress) -> None:
        if not progress.in_bytes:
            measured.append(progress.path.name)
            raise KeyboardInterrupt

    options = Options(["F16", "Q8_0"], report=True)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", options=options, progress=interrupt)
    assert measured == ["tiny-F16.gguf"]
    assert names(tmp_path / "out") == []
