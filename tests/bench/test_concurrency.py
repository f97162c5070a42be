"""`localmtp bench concurrency` as a real process."""

import json
import subprocess
import sys

import pytest

NANO = [sys.executable, "-m", "localmtp", "bench", "concurrency", "nano", "--threads", "1"]
SMALL = (
    "--prompts",
    "1",
    "--repeats",
    "1",
    "--max-tokens",
    "12",
    "--workload",
    "count",
    "--workload",
    "story",
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NANO, *SMALL, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_every_number_of_answers_is_measured_at_every_length() -> None:
    done = bench("--parallel", "1,3", "--n-draft", "2,auto", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    runs = {(run["at_once"], run["n_draft"]): run for run in report["concurrency"]}
    assert set(runs) == {(size, n) for size in (1, 3) for n in ("0", "2", "auto")}
    for (size, n_draft), run in runs.items():
        plain = runs[size, "0"]
        assert run["speedup"] == pytest.approx(
            run["decode_tokens_per_s"] / plain["decode_tokens_per_s"]
        )
        if n_draft == "0":
            # Each answer gets a token from every pass, whatever their number.
            assert run["tokens_per_pass"] == pytest.approx(1.0)
        if n_draft == "2":
            assert run["draft_length_mean"] <= 2.0
            assert 1.0 <= run["tokens_per_pass"] <= 3.0
            assert run["acceptance_rate"] > 0.3


@pytest.mark.parametrize("counts", ["0", "1,x", "65"])
def test_impossible_numbers_are_wrong_usage(counts: str) -> None:
    assert bench("--parallel", counts).returncode == 2
