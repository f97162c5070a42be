"""The checks of a GPU, on any machine: results of each are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from localmtp.bench.lab.gpu_report import report


def test_results_are_kept_and_added_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "localmtp.bench.lab.gpu_check", str(tmp_path), "--small"]
    for name in ("run_processor", "run_sampling_on", "size_nano"):
        done = subprocess.run([*command, "--only", name], capture_output=True, text=True)
        assert f"{name}: exit code 0" in done.stdout, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    answers = [results[name]["json"]["token_ids"] for name in ("run_processor", "run_sampling_on")]
    assert answers[0] == answers[1]
    done = subprocess.run([*command, "--seconds", "5"], capture_output=True, text=True)
    assert "doctor: " in done.stdout
    assert (tmp_path / "logs" / "run_sampling_on.out").is_file()
    tables = (tmp_path / "report.md").read_text("utf-8")
    assert "| run_sampling_on | the processor's tokens |" in tables
    assert "| nano | device |" in tables
    assert "s left |" in tables


def test_tables_of_every_check() -> None:
    """Also where some are missing."""
    assert report({}) == "## No GPU\n\nAn unknown machine.\n"
    standing = {
        **{"contestant": "localmtp auto", "temperature": 1.0, "tokens_per_s": 80.0},
        **{"acceptance_rate": None, "tokens_per_pass": 2.5},
    }
    ratio = {"temperature": 1.0, "to": "llama-server 3", "q1": 1.2, "median": 1.3, "q3": 1.4}
    other = {**standing, "contestant": "llama-server 3", "acceptance_rate": 0.5}
    trained = {"model": "nano", "standings": [standing, other], "ratios": [ratio]}
    overhead = {
        "code": 0,
        "output": "vocabulary of 9\ntemperature 0, auto:    27 us outside libllama",
    }
    tables = report(
        {
            "trained": {"code": 0, "json": trained},
            "tests": {"skipped": "3 s left"},
            "overhead_device": overhead,
        }
    )
    assert "| device | temperature 0, auto | 27 us outside libllama |" in tables
    assert "| 1 | llama-server 3 | 80.0 | 50% | 2.50 | 1.30 (1.20 to 1.40) |" in tables
    assert "| tests | 3 s left |" in tables
