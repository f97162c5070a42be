"""`localmtp verify` as a real process, on the embedded pair."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NANO = (sys.executable, "-m", "localmtp", "verify", "nano", "--threads", "1", "--prompts", "1")


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NANO, "--max-tokens", "32", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_embedded_pair_is_verified() -> None:
    done = verify("--temp", "2", "--n-draft", "3", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] is True
    greedy, passes, sampled = report["greedy"], report["passes"], report["sampled"]
    assert greedy["compared"] == 8
    assert all(d["margin"] < passes["margin_bound"] for d in greedy["differences"])
    assert passes["rejections"] > 20
    assert passes["hidden_error"] < 0.3
    assert sampled["tosses"] >= 100
    assert sampled["p_value"] >= 0.001
    assert 0.0 <= sampled["acceptance"] <= 1.0
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    documented = page.split("report of `localmtp verify`")[1]
    assert not [name for name in _names(report) if f"`{name}`" not in documented]


def _names(report: dict[str, Any]) -> set[str]:
    """Names of fields; those of `answers` are names of checks."""
    inner = [value for value in report.values() if isinstance(value, dict)]
    return set(report).union(*map(_names, inner))


def test_the_time_limit_ends_every_check_after_a_prompt() -> None:
    done = verify("--temp", "2", "--n-draft", "3", "--budget", "0.0001", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error" not in done.stderr
    report = json.loads(done.stdout)
    assert report["cut_by_budget"] == ["greedy", "seeded", "sampled"]
    assert report["greedy"]["compared"] == report["seeded"]["compared"] == 1
    assert report["passes"]["rejections"] > 1
    assert report["undecided"] is True


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a process")
def test_an_interrupted_check_reports_what_was_compared() -> None:
    with subprocess.Popen(
        [*NANO, "--temp", "2", "--n-draft", "3,3,3,3", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "prompts (greedy)" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    report = json.loads(out)
    assert (report["interrupted"], report["passed"], report["undecided"]) == (True, False, True)
    assert report["cut_by_budget"] == []
    done, total = report["answers"]["greedy"].values()
    assert 0 < done < total == 8
    assert report["greedy"]["compared"] > 0
    assert report["passes"]["drafter_listens"] is None
    assert report["answers"]["sampled"]["done"] == report["sampled"]["tokens"] == 0
    assert f"interrupted: greedy {done} of 8" in err


def test_without_a_drafter_verify_fails() -> None:
    done = verify("--drafter", "none")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "nothing to verify" in done.stderr
    assert verify("--n-draft", "0").returncode == 1
