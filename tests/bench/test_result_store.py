"""Results are stored, listed and compared, on real runs with a data folder of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folders import move_user_folders

QUICK = ("--threads", "1", "--prompts", "1", "--repeats", "1", "--max-tokens", "8",
         "--workload", "count", "--n-draft", "2")  # fmt: skip


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    move_user_folders(monkeypatch, tmp_path, "DATA")
    return tmp_path


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmtp", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_result_is_compared_with_the_previous_one(data: Path) -> None:
    assert bench("compare", "nano").returncode == 1
    first = bench("nano", *QUICK, "--json")
    assert first.returncode == 0, first.stderr
    (path,) = data.rglob("*.json")
    stored = json.loads(path.read_text())
    assert stored == json.loads(first.stdout)
    for run in stored["runs"]:
        run["decode_tokens_per_s"] /= 4  # a version that was slow
    path.write_text(json.dumps(stored))
    second = bench("compare", "nano", *QUICK, "--json")
    assert second.returncode == 0, second.stderr
    report = json.loads(second.stdout)
    assert report["compared"]["when"] == stored["when"]
    now = {run["n_draft"]: run["decode_tokens_per_s"] for run in report["runs"]}
    before = {run["n_draft"]: run["decode_tokens_per_s"] for run in stored["runs"]}
    ratios = {r["n_draft"]: r["decode_tokens_per_s_ratio"] for r in report["compared"]["runs"]}
    assert ratios == {n: pytest.approx(now[n] / before[n]) for n in ("0", "2")}


def test_history_has_a_line_for_each_result(data: Path) -> None:
    for turn in range(2):  # both may be of the same second
        bench("nano", *QUICK)
        for path in data.rglob("2*.json"):
            path.rename(path.with_name(f"earlier-{turn}-{path.name}"))
    shown = bench("history", "nano").stdout.splitlines()
    assert shown[1].split()[:2] == ["version", "cpu"]
    assert len(shown) == 2 + 2
    assert bench("history", "gemma4-e2b").returncode == 1


def test_a_file_that_is_no_result_is_refused_before_measuring(data: Path) -> None:
    other = data / "other.json"
    other.write_text('{"model": "nano"}')
    done = bench("compare", "nano", str(other), *QUICK)
    assert done.returncode == 1
    assert "other.json" in done.stderr
    assert "missing" in done.stderr
    assert "answers" not in done.stderr


def test_a_result_that_cannot_be_stored_is_still_printed(data: Path) -> None:
    (data / "localmtp").write_text("in the way")
    done = bench("nano", *QUICK, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"]
    assert "warning: cannot create" in done.stderr
