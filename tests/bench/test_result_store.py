"""Results are stored, listed and compared, on real runs with a data folder of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localmtp.bench.result_store import read_result, stored_results
from localmtp.errors import LocalmtpError
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


WHOLE: dict[str, Any] = {
    "model": "nano",
    "version": "1",
    "when": "2026-01-01T00:00:00+00:00",
    "machine": {"cpu": "c", "threads": 1},
    "runs": [{"workload": "w", "temp": 0.0, "n_draft": "0", "decode_tokens_per_s": 1.0}],
}


@pytest.mark.parametrize(
    "content",
    [
        *("[" * 100_000, "[]", "\x00", json.dumps(WHOLE | {"when": "yesterday"})),
        *(json.dumps(WHOLE | {"machine": []}), json.dumps(WHOLE | {"runs": []})),
        *(json.dumps(WHOLE | {"runs": [{}]}), json.dumps(WHOLE | {"runs": 1})),
        json.dumps(WHOLE | {"runs": [WHOLE["runs"][0] | {"decode_tokens_per_s": float("nan")}]}),
    ],
)
def test_a_damaged_result_is_refused_or_left_out(data: Path, content: str) -> None:
    file = data / "damaged.json"
    file.write_text(content, "utf-8")
    with pytest.raises(LocalmtpError, match=r"damaged\.json is not a result"):
        read_result(file)
    (data / "whole.json").write_text(json.dumps(WHOLE), "utf-8")
    assert [result.path.name for result in stored_results("nano", data)] == ["whole.json"]


def test_a_result_that_cannot_be_stored_is_still_printed(data: Path) -> None:
    (data / "localmtp").write_text("in the way")
    done = bench("nano", *QUICK, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"]
    assert "warning: cannot create" in done.stderr
