"""Draft policies on traces: `bench trace` records, `bench replay` compares."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localmtp.bench.lab.pacing.replay import CURVES, compare, oracle, replay
from localmtp.bench.lab.pacing.trace_file import CostCurve, TracedAnswer
from localmtp.engine.decoding.trace import Round
from localmtp.engine.pacing import AutoPolicy, Calibration, FixedPolicy, RoundPlan
from localmtp.limits import MAX_AUTO_DRAFT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmtp", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def text(seed: int, positions: int = 400) -> list[TracedAnswer]:
    """Answers of easy tokens with hard ones among them."""
    random = np.random.default_rng(seed)
    sure = np.where(random.random(positions) < 0.75, 0.995, random.uniform(0.2, 0.9, positions))
    right = random.random(positions) < sure
    rounds = []
    for at in range(positions):
        ahead = right[at : at + MAX_AUTO_DRAFT]
        accepted = len(ahead) if ahead.all() else int(ahead.argmin())
        confidence = tuple(map(float, sure[at : at + MAX_AUTO_DRAFT]))
        rounds.append(Round(confidence, len(confidence), accepted, 0.0, 0.0))
    return [TracedAnswer("text", tuple(rounds))]


def auto(calibration: Calibration | None = None) -> AutoPolicy:
    return AutoPolicy(calibration or Calibration(), RoundPlan())


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_auto_is_as_good_as_the_best_rule_in_hindsight(curve: CostCurve) -> None:
    speed = {o.policy.split(":")[0]: o.speed for o in compare(text(1, 1500) + text(2, 1500), curve)}
    assert speed["auto"] > 0.96 * speed["best threshold"]
    assert speed["auto"] > 0.98 * speed["best fixed"]
    assert speed["auto"] > 0.98  # of no drafting
    assert speed["oracle"] >= max(speed.values())


def underconfident(answer: TracedAnswer) -> TracedAnswer:
    """The same drafts by a drafter that reports a twentieth of the true odds."""
    rounds = tuple(
        replace(r, confidence=tuple(c / (c + 20 * (1 - c)) for c in r.confidence))
        for r in answer.rounds
    )
    return TracedAnswer(answer.workload, rounds)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_an_underconfident_drafter_is_calibrated(curve: CostCurve) -> None:
    answers = text(3, 4000)
    honest, _ = replay(answers, auto(), curve)
    found, _ = replay(map(underconfident, answers), auto(), curve)
    assert found > 0.97 * honest


def test_fixed_lengths_cost_what_the_curve_says() -> None:
    answers = [TracedAnswer("text", tuple(Round((0.9, 0.9), 2, 1, 0.0, 0.0) for _ in range(6)))]
    curve = CostCurve("made up", (1.0, 2.0, 4.0, *[9.0] * 6), 0.5)
    plain, _ = replay(answers, FixedPolicy(0), curve)
    one, length = replay(answers, FixedPolicy(1), curve)
    assert plain == pytest.approx(1.0)
    assert one == pytest.approx(6 / (3 * 2.5))
    assert length == 1
    assert oracle(answers, curve) == pytest.approx(1.0)


def test_learned_rates_can_be_saved_and_restored() -> None:
    calibration = Calibration()
    assert not calibration.measured
    replay(text(3), auto(calibration), CURVES[1])
    assert calibration.measured
    saved = json.loads(json.dumps(calibration.dump()))
    assert saved["accepted"] != Calibration().dump()["accepted"]
    again = Calibration.load(saved).dump()
    for name, values in saved.items():
        assert again[name] == pytest.approx(values, abs=1e-5)
    with pytest.raises((KeyError, ValueError)):
        Calibration.load({"accepted": [1.0], "share": [1.0], "copied": []})


def test_a_trace_of_nano_is_recorded_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "nano.jsonl"
    flags = ["--prompts", "1", "--max-tokens", "40", "--threads", "1", "--workload", "json"]
    done = bench("trace", "nano", str(path), *flags)
    assert done.returncode == 0, done.stderr
    head, *rounds = map(json.loads, path.read_text("utf-8").splitlines())
    assert head["full"] and len(head["pass_s"]) == MAX_AUTO_DRAFT + 1
    assert len(rounds) > 20  # one at every position
    assert all(r["accepted"] <= r["drafted"] == len(r["confidence"]) for r in rounds)
    replayed = bench("replay", str(path), "--json")
    curves = json.loads(replayed.stdout)["curves"]
    assert {"this machine", *(c.name for c in CURVES)} == set(curves)
    for outcomes in curves.values():
        assert outcomes[-1]["policy"] == "oracle"
        assert outcomes[-1]["speed"] == max(o["speed"] for o in outcomes)


HEAD = '{"model": "n", "full": true, "name": "x", "pass_s": [1, 2, 3], "step_s": 1}'
ROUND = '{"answer": 0, "workload": "w", "confidence": [0.5], "drafted": %s, "accepted": %s'
INCONSISTENT = [
    f'{HEAD}\n{ROUND % numbers}, "draft_s": 0, "verify_s": 0}}'
    for numbers in ((1, 2), (2, 0), (-1, -1), ('"1"', 0), (1, "NaN"))
]
DAMAGED = ["", "{}", '{"full": true}\n[]', "not JSON", "[" * 100_000, *INCONSISTENT]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_that_is_no_trace_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(content, "utf-8")
    done = bench("replay", str(path))
    assert done.returncode == 1
    assert f"{path} is not a trace to replay on" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_trace_writes_one_line_per_round(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    command = [sys.executable, "-m", "localmtp", "run", "nano", "Count from 1 to 9.", "--json"]
    flags = ["--threads", "1", "--temp", "0", "--n-draft", "3", "--trace", str(path)]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
    stats = json.loads(done.stdout)["stats"]
    rounds = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(rounds) == stats["target_passes"]
    assert sum(r["drafted"] for r in rounds) == stats["drafted"]
    assert sum(len(r["confidence"]) for r in rounds) == stats["draft_steps"]
    assert all(r["accepted"] <= r["drafted"] for r in rounds)
    refused = bench("replay", str(path))
    assert refused.returncode == 1
