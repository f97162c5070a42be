"""The checks of a GPU, on any machine: results of each are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_results_are_kept_and_added_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "localmtp.bench.lab.gpu_check", str(tmp_path), "--small"]
    for name in ("sampling_off", "sampling_on"):
        done = subprocess.run([*command, "--only", name], capture_output=True, text=True)
        assert f"{name}: exit code 0" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    answers = [results[name]["json"]["token_ids"] for name in ("sampling_off", "sampling_on")]
    assert answers[0] == answers[1]
    done = subprocess.run([*command, "--seconds", "5"], capture_output=True, text=True)
    assert "doctor: " in done.stdout
    assert (tmp_path / "logs" / "sampling_on.out").is_file()
