"""A conversion that ends early leaves no files, and the same command succeeds afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from localmtp.convert import ConvertProgress, Options, convert
from localmtp.convert.output.gguf_file import WorkFolder
from localmtp.engine.llama import Model, Offload
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


def test_a_second_run_that_writes_the_same_file_is_refused(
    tmp_path: Path, command: list[str]
) -> None:
    out = tmp_path / "out"
    with WorkFolder(out / "mtp-tiny-F32.gguf"):
        refused = localmtp(*command)
        assert refused.returncode == 1
        assert refused.stderr.splitlines() == [
            f"error: {out / 'mtp-tiny-F32.gguf'} is being written by another run",
            "hint: wait until it ends, or choose another --out or --name",
        ]
        assert names(out) == [".mtp-tiny-F32.gguf.partial"]
        other = localmtp(*command, "--name", "other")
        assert other.returncode == 0, other.stderr
    done = localmtp(*command)
    assert done.returncode == 0, done.stderr
    assert set(FILES) < set(names(out))


def test_two_runs_at_the_same_time_write_every_file_once(
    tmp_path: Path, command: list[str]
) -> None:
    arguments = [sys.executable, "-m", "localmtp", *command]
    runs = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    results = [(run.communicate()[1], run.returncode) for run in runs]
    assert [code for _, code in results].count(0) == 1, results
    assert all("another run" in text or " exists" in text for text, code in results if code)
    assert names(tmp_path / "out") == FILES


@pytest.mark.parametrize("kill", range(int(os.environ.get("LOCALMTP_KILLS", "2"))))
def test_a_run_killed_at_any_time_leaves_nothing_or_complete_files(
    tmp_path: Path, command: list[str], kill: int
) -> None:
    """The process is killed once a random number of bytes is written."""
    out = tmp_path / "out"
    after = Random(kill).randrange(6_000_000)
    process = subprocess.Popen([sys.executable, "-m", "localmtp", *command])
    while process.poll() is None and written(out) < after:
        time.sleep(0.001)
    process.kill()
    process.wait()
    left = [name for name in names(out) if not name.startswith(".")] if out.exists() else []
    for name in left:
        with Model(out / name, offload=Offload(0)):
            pass
    done = localmtp(*command, "--force")
    assert done.returncode == 0, done.stderr
    assert names(out) == FILES


def written(out: Path) -> int:
    """Bytes written by a run in progress."""
    total = 0
    for path in out.rglob("*.gguf"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
