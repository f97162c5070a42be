"""`localmtp bench`: subcommands, the bare form, and the flags that became subcommands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.test_imports import modules_after

QUICK = ("--threads", "1", "--prompts", "1", "--repeats", "1", "--max-tokens", "8",
         "--workload", "count", "--n-draft", "2", "--json")  # fmt: skip


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmtp", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("run", "nano", *QUICK), ("nano", *QUICK), (*QUICK, "nano")])
def test_run_is_the_default(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert {run["n_draft"] for run in json.loads(done.stdout)["runs"]} == {"0", "2"}


def test_earlier_flags_work_and_name_the_subcommand(data: Path) -> None:
    first = bench("nano", *QUICK)
    again = bench("nano", "--compare", *QUICK)
    assert "compared" in json.loads(again.stdout)
    assert "use: localmtp bench compare nano" in again.stderr
    (data / "first.json").write_text(first.stdout)
    from_file = bench(*QUICK, "nano", f"--compare={data / 'first.json'}")
    assert "compared" in json.loads(from_file.stdout)
    history = bench("--history", "nano", "--json")  # --json was ignored
    assert history.stdout.startswith("Mean tok/s")
    trace = data / "trace.jsonl"
    assert bench("nano", "--trace", str(trace), *QUICK).returncode == 0
    assert "curves" in json.loads(bench("--replay", str(trace), "--json").stdout)
    several = bench("nano", "--concurrency", "1,2", *QUICK)
    assert {run["at_once"] for run in json.loads(several.stdout)["concurrency"]} == {1, 2}
    expected = bench("--n-draft", "1", "nano", "--synthetic", "--budget", "0.01", "--json")
    assert json.loads(expected.stdout)["synthetic"]
    for done in (history, several, expected):
        assert done.stderr.startswith("warning: `bench --")


def test_earlier_flags_without_effect_are_still_refused() -> None:
    assert bench("nano", "--concurrency", "2", "--compare").returncode == 2
    assert bench("nano", "--concurrency", "2", "--system", "text").returncode == 2
    assert bench("nano", "--synthetic", "--temp", "1").returncode == 2
    assert bench("nano", "--acceptance", "0.5").returncode == 2


def test_values_of_other_options_are_not_flags() -> None:
    done = bench("nano", *QUICK, "--system", "--history")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"]


def test_the_help_imports_neither_llama_cpp_nor_numpy() -> None:
    for arguments in (["bench", "--help"], ["bench", "synthetic", "--help"]):
        code = f"""
from localmtp.cli import cli
try:
    cli.main({arguments!r}, standalone_mode=False)
except SystemExit:
    pass
"""
        assert not {"llama_cpp", "numpy"} & modules_after(code)
