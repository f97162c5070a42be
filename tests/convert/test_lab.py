"""The scripts of `localmtp.bench.lab.convert`, run as modules."""

import os
import subprocess
import sys
from pathlib import Path

from localmtp.bench.lab.convert.reference import VARIABLES


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"localmtp.bench.lab.convert.{name}", *arguments]
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_parity_names_the_missing_variables(tmp_path: Path) -> None:
    done = run_module("parity", str(tmp_path), "E2B-assistant")
    assert done.returncode == 1
    assert all(name in done.stderr for name in VARIABLES)
    assert "Traceback" not in done.stderr


def test_parity_refuses_an_unknown_shape(tmp_path: Path) -> None:
    done = run_module("parity", str(tmp_path), "70B")
    assert (done.returncode, "unknown shape 70B" in done.stderr) == (2, True)


def test_large_refuses_an_unknown_model_and_writes_nothing(tmp_path: Path) -> None:
    done = run_module("large", str(tmp_path / "big"), "gemma9-1b")
    assert (done.returncode, "unknown model gemma9-1b" in done.stderr) == (2, True)
    assert not (tmp_path / "big").exists()
