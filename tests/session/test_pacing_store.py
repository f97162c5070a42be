"""Saved pacing data: restored if it is intact, ignored if it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localmtp.engine.pacing import Calibration
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


def test_a_folder_that_cannot_be_written_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = PacingStore(["a model"], tmp_path / "file" / "deep")
    store.save(Calibration(), greedy=True)
    assert store.load(greedy=True) is None
