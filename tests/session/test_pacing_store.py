"""Saved pacing data: restored if it is intact, ignored if it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localmtp.engine.pacing import Calibration, CostModel, Outcome, PacingState
from localmtp.session.pacing_store import PacingStore


def test_what_was_saved_is_loaded_for_the_same_pair_only(tmp_path: Path) -> None:
    calibration = Calibration()
    calibration.drafts.accepted[0] = 0.25
    store = PacingStore(["a model", "2 threads"], tmp_path / "deep")
    store.save(calibration, greedy=True)
    loaded = PacingStore(["a model", "2 threads"], tmp_path / "deep").load(greedy=True)
    assert loaded
    assert loaded.drafts.accepted == calibration.drafts.accepted
    assert store.load(greedy=False) is None
    assert PacingStore(["a model", "1 thread"], tmp_path / "deep").load(greedy=True) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"[" * 100_000,
        {"accepted": None},
        {"accepted": [0.5]},
        {"share": "x"},
        {"share": ["x"] * 9},
        {"share": [float("nan")] * 9},
        {"share": [2.0] * 9},
        {"invented": 1},
    ],
)
def test_damaged_data_is_ignored(tmp_path: Path, damage: bytes | dict[str, object]) -> None:
    store = PacingStore(["a model"], tmp_path)
    store.save(Calibration(), greedy=True)
    (path,) = tmp_path.iterdir()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    assert store.load(greedy=True) is None


def test_costs_are_loaded_by_number_of_threads(tmp_path: Path) -> None:
    costs = CostModel()
    costs.set_threads(2)
    for length, steps in ((0, 0), (0, 0), (3, 3)):
        plan = costs.begin_round(1)
        policy = costs.policy(Calibration())
        policy.begin_round(8, plan)
        outcome = Outcome(policy, length, steps, 1)
        costs.end_round(plan, [outcome], 0.01 * steps, 0.1 + 0.01 * length, drafted=steps > 0)
    store = PacingStore(["a model"], tmp_path)
    store.save_all(PacingState(costs=costs.dump()))
    loaded = store.load_all().costs
    assert loaded == costs.dump()
    assert loaded["2"]["passes"][0] == pytest.approx(0.1)
    later = CostModel(loaded)
    assert later.plain_tokens_per_s == 0
    later.set_threads(2)
    assert later.plain_tokens_per_s == pytest.approx(10)


@pytest.mark.parametrize(
    "damage",
    [
        [],
        {"2": None},
        {"2": {"passes": [0.1] * 3, "step": 0.1, "change": 0.1}},
        {"2": {"passes": [0.0] * 17, "step": 0.1, "change": 0.1}},
        {"2": {"passes": [float("nan")] * 17, "step": 0.1, "change": 0.1}},
        {"2": {"passes": [0.1] * 17, "step": -1, "change": 0.1}},
        {"2": {"passes": [0.1] * 17, "step": "0", "change": 0.1}},
        {"2": {"passes": [1e300] * 17, "step": 0.1, "change": 0.1}},
    ],
)
def test_damaged_costs_are_ignored(tmp_path: Path, damage: object) -> None:
    store = PacingStore(["a model"], tmp_path)
    store.save_all(PacingState(costs={"1": {"passes": [0.1] * 17, "step": 0.1, "change": 0.1}}))
    (path,) = tmp_path.iterdir()
    assert store.load_all().costs
    path.write_text(json.dumps(damage))
    assert store.load_all().costs == {}


def test_a_folder_that_cannot_be_written_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = PacingStore(["a model"], tmp_path / "file" / "deep")
    store.save(Calibration(), greedy=True)
    assert store.load(greedy=True) is None
