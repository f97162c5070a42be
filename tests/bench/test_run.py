"""`localmtp bench run` as a real process: the contract, partial results, plots."""

import json
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.folders import move_user_folders
from tests.posix import needs_signals

SMALL = ("--threads", "1", "--prompts", "1", "--repeats", "1", "--max-tokens", "12")
NANO = [sys.executable, "-m", "localmtp", "bench", "nano", *SMALL]


@pytest.fixture(autouse=True)
def data_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_user_folders(monkeypatch, tmp_path / "data", "DATA")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NANO, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_own_prompts_are_measured(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('numbers = ["Count from 1 to 20."]\nhellos = ["Hello!"]\n', "utf-8")
    done = bench("--prompts-file", str(own), "--n-draft", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert {run["workload"] for run in json.loads(done.stdout)["runs"]} == {"numbers", "hellos"}


def test_a_file_without_prompts_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    done = bench("--prompts-file", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read")
    assert done.stdout == ""


def test_json_has_the_fields_of_the_contract() -> None:
    done = bench(
        "--workload", "count", "--workload", "story", "--n-draft", "2,auto", "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["model"] == "nano"
    assert report["machine"]["threads"] == 1
    assert report["machine"]["cpu"]
    assert isinstance(report["machine"]["devices"], list)
    memory = report["memory"]
    assert 0 < memory["drafter_bytes"] < memory["target_bytes"] < memory["resident_bytes"]
    assert memory["bandwidth_bytes_per_s"] > 1e8
    runs = {(run["workload"], run["n_draft"]): run for run in report["runs"]}
    assert set(runs) == {(w, n) for w in ("count", "story") for n in ("0", "2", "auto")}
    for (workload, _), run in runs.items():
        plain = runs[workload, "0"]
        rate, slowest = run["decode_tokens_per_s"], run["decode_tokens_per_s_range"][0]
        assert 0 < slowest <= rate
        assert run["speedup"] == pytest.approx(rate / plain["decode_tokens_per_s"])
        assert run["temp"] == 0.0
        assert run["repeats"] == 1
        assert 2 <= run["completion_tokens"] <= 12
        assert 0.0 <= run["acceptance_rate"] <= 1.0
        assert plain["tokens_per_pass"] == 1.0
        assert plain["acceptance_rate"] == 0.0
        assert run["bandwidth_share"] > 0.0
    for workload, best in report["best_fixed"].items():
        fixed = {n: runs[workload, str(n)]["decode_tokens_per_s"] for n in (0, 2)}
        auto = runs[workload, "auto"]["decode_tokens_per_s"]
        assert best == max(fixed, key=lambda n: fixed[n])
        assert report["auto_vs_best_fixed"][workload] == pytest.approx(auto / fixed[best])
        assert report["auto_vs_none"][workload] == pytest.approx(auto / fixed[0])


def test_greedy_answers_are_equally_long_at_every_length() -> None:
    done = bench("--workload", "count", "--n-draft", "1,3", "--max-tokens", "20", "--json")
    lengths = {run["completion_tokens"] for run in json.loads(done.stdout)["runs"]}
    assert len(lengths) == 1


def test_tables_plot_and_markdown(tmp_path: Path) -> None:
    plot = tmp_path / "speed.svg"
    done = bench("--workload", "json", "--n-draft", "2", "--sampled", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    for title in ("Decode tok/s, greedy", "Speedup", "Tokens per pass", "Share of decoding time"):
        assert title in done.stdout
    assert re.search(r"temperature \d", done.stdout)
    assert "6 of 6 answers" not in done.stdout
    assert "left" in done.stderr
    drawn = {"".join(e.itertext()) for e in ElementTree.parse(plot).getroot()}
    assert {"none", "2", "json"} <= drawn
    shown = bench("--workload", "json", "--n-draft", "2", "--markdown").stdout
    assert shown.startswith("## nano with nano")
    assert "| workload | none | 2 |" in shown


@pytest.mark.skipif(find_spec("resvg_py") is None, reason="resvg-py is not installed")
def test_a_plot_can_be_a_png(tmp_path: Path) -> None:
    plot = tmp_path / "plots" / "speed.png"
    plot.parent.mkdir()
    done = bench("--workload", "json", "--n-draft", "2", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    data = plot.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(data[16:20]) == 1520
    assert list(plot.parent.iterdir()) == [plot]


def test_other_plot_types_are_refused_before_measuring(tmp_path: Path) -> None:
    done = bench("--plot", str(tmp_path / "speed.jpg"))
    assert done.returncode == 1
    assert ".svg" in done.stderr
    assert "answers" not in done.stderr


def test_sampling_flags_are_applied() -> None:
    """The most probable token alone, at any temperature, is greedy."""
    done = bench("--workload", "story", "--n-draft", "2", "--sampled", "--top-k", "1", "--json")
    assert done.returncode == 0, done.stderr
    greedy, sampled = ([r for r in json.loads(done.stdout)["runs"] if bool(r["temp"]) is t]
                       for t in (False, True))  # fmt: skip
    assert len(greedy) == len(sampled) == 2
    for field in ("acceptance_rate", "tokens_per_pass", "completion_tokens"):
        assert [run[field] for run in greedy] == [run[field] for run in sampled]


@needs_signals
def test_an_interrupted_run_shows_its_results_so_far() -> None:
    arguments = ["--n-draft", "1", "--repeats", "500", "--json"]
    with subprocess.Popen(
        [*NANO, "--workload", "chat", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # a tenth is done
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    runs = json.loads(out)["runs"]
    assert {run["n_draft"] for run in runs} == {"0", "1"}
    assert 0 < runs[0]["repeats"] == runs[1]["repeats"] < 500


def test_a_time_limit_ends_it_after_whole_rounds() -> None:
    done = bench("--n-draft", "1", "--budget", "0.000001", "--json")
    assert done.returncode == 0, done.stderr
    assert [run["n_draft"] for run in json.loads(done.stdout)["runs"]] == ["0", "1"]
    assert "not measured in the time: " in done.stderr


def test_without_a_drafter_only_plain_decoding_is_measured() -> None:
    done = bench("--workload", "count", "--drafter", "none", "--json")
    assert {run["n_draft"] for run in json.loads(done.stdout)["runs"]} == {"0"}
    assert "drafting is off: --drafter none" in done.stderr


def test_unknown_workloads_and_lengths_are_refused() -> None:
    unknown = bench("--workload", "poetry")
    assert unknown.returncode == 1
    assert "poetry" in unknown.stderr
    assert "story" in unknown.stderr
    assert bench("--n-draft", "1,17").returncode == 2
