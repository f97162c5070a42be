"""The share of the memory bandwidth that answers reach, and where it is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.pair import LoadOptions
from localmtp.engine.stats import Counters
from localmtp.engine.weight_reads import WeightReads
from localmtp.models import resolve
from localmtp.paths import pacing_store
from localmtp.session import Choices
from localmtp.session.bandwidth import weight_reads
from localmtp.session.local import open_session
from tests.folders import move_user_folders

FILES = resolve("nano")
PROCESSOR = 0, DeviceOptions()


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of measured bandwidths, which does not exist yet."""
    move_user_folders(monkeypatch, tmp_path, "STATE")
    yield pacing_store() / "bandwidth.json"


def test_the_share_counts_what_passes_and_draft_steps_read() -> None:
    reads = WeightReads(all=100.0, token=40.0, more=25.0, step=5.0, bandwidth=1000.0)
    assert reads.share(0, 0, 1.0) == pytest.approx(0.04)
    assert reads.share(2, 3, 0.5) == pytest.approx((40 + 50 + 15) / 500)
    assert reads.share(9, 0, 1.0) == pytest.approx(0.1)  # all experts, once
    counters = Counters(reads=reads, completion_tokens=9, first_token=1.0, last_token=5.0)
    for _ in range(4):
        counters.count_round(3, 2, 1)
    assert counters.snapshot().bandwidth_share == pytest.approx(reads.share(2, 3, 1.0))
    assert Counters().snapshot().as_dict()["bandwidth_share"] is None


def test_small_models_are_not_worth_measuring(saved: Path) -> None:
    assert weight_reads(FILES, *PROCESSOR) is None
    assert not saved.exists()


def test_a_measured_bandwidth_is_used_by_every_answer(saved: Path) -> None:
    measured = weight_reads(FILES, *PROCESSOR, measure=True)
    assert measured
    assert measured.step == FILES.drafter_file.stat().st_size if FILES.drafter_file else 0
    assert 0 < measured.token <= measured.all == FILES.target.stat().st_size
    choices = Choices(temperature=0.0, max_tokens=12)
    options = LoadOptions(threads=1, context=256, gpu_layers=0)
    with closing(open_session(FILES, choices, options)) as session:
        for _ in session.ask("Who are you?"):
            pass
        stats = session.stats()
    passes = stats.target_passes
    round_s = stats.decode_s / passes
    expected = measured.share(stats.draft_length_mean, stats.draft_steps / passes, round_s)
    assert stats.bandwidth_share == pytest.approx(expected) != 0


def test_the_best_of_several_measurements_counts(saved: Path) -> None:
    weight_reads(FILES, *PROCESSOR, measure=True)
    names = list(json.loads(saved.read_text("utf-8")))
    saved.write_text(json.dumps(dict.fromkeys(names, 1e14)), "utf-8")
    again = weight_reads(FILES, *PROCESSOR, measure=True)
    assert again
    assert again.bandwidth == 1e14


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": "y"}', '{"x": -1}', '{"x": 1e300}'])
def test_a_damaged_file_is_ignored(saved: Path, damage: str) -> None:
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.write_text(damage, "utf-8")
    assert weight_reads(FILES, *PROCESSOR) is None
