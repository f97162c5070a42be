"""Placement of sparse files on this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.kv_type import KVType
from localmtp.engine.load_options import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.hardware import memory
from localmtp.models import resolve
from localmtp.models.memory.available import choose_placement
from localmtp.models.memory.placement import Placement
from tests.models.conftest import Program
from tests.pairs import REAL, TINY, write_pair


def grown(path: Path, nbytes: int) -> None:
    """Extends a file with a hole."""
    with path.open("r+b") as file:
        file.truncate(nbytes)


def placed(target: Path, options: LoadOptions | None = None) -> Placement:
    options = replace(options or LoadOptions(), devices=DeviceOptions(names=()))
    placement = choose_placement(resolve(str(target)), options)
    assert placement is not None
    return placement


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "gemma-4-E2B-Q4_0.gguf"
    write_pair(REAL["gemma4-e2b"], path, tmp_path / "mtp-gemma-4-E2B.gguf", hollow=True)
    return path


def test_requested_options_are_not_changed(target: Path) -> None:
    grown(target, 1 << 29)
    requested = LoadOptions(context=3000, kv_type=KVType.Q8_0, batch=64)
    chosen = placed(target, requested)
    assert (chosen.options.context, chosen.options.kv_type, chosen.options.batch) == (
        3000,
        "q8_0",
        64,
    )
    assert "context 3000, q8_0 KV cache, batches of 64" in chosen.summary


def test_a_pair_that_does_not_fit_is_refused_before_loading(target: Path) -> None:
    grown(target, 2 * memory.main_memory().total)
    with pytest.raises(LocalmtpError, match="GB with a context of 8192") as caught:
        placed(target)
    assert "doctor" in caught.value.hint


def test_a_smaller_context_is_proposed(tmp_path: Path) -> None:
    target = tmp_path / "gemma-4-31B-Q4_0.gguf"
    size = replace(REAL["gemma4-31b"], context=1 << 24)
    write_pair(size, target, tmp_path / "mtp-gemma-4-31B.gguf", hollow=True)
    grown(target, 1 << 29)
    with pytest.raises(LocalmtpError) as caught:
        placed(target, LoadOptions(context=1 << 24))
    assert "this fits: --ctx" in caught.value.hint


def test_a_drafter_is_not_dropped_to_fit(target: Path) -> None:
    grown(target, 1 << 29)
    drafter = target.with_name("mtp-gemma-4-E2B.gguf")
    grown(drafter, 2 * memory.main_memory().total)
    with pytest.raises(LocalmtpError) as caught:
        placed(target)
    assert "--drafter none" in caught.value.hint


def test_the_chosen_options_are_loaded_and_reported(tmp_path: Path, program: Program) -> None:
    target = tmp_path / "tiny.gguf"
    write_pair(TINY["e"], target, tmp_path / "mtp-tiny.gguf")
    ask = ("run", str(target), "x" * 200, "--raw", "--json", "--threads", "1", "--n-draft", "2")
    flags = (
        "--max-tokens",
        "4",
        "--temp",
        "0",
        "--ctx",
        "700",
        "--kv-type",
        "q8_0",
        "--batch",
        "48",
        "--device",
        "none",
    )
    small = program(*ask, *flags)
    grown(target, 1 << 29)
    large = program(*ask, *flags)
    assert "KV cache" not in small.stderr
    assert "context 700, q8_0 KV cache, batches of 48: 0." in large.stderr
    answers = [json.loads(done.stdout) for done in (small, large)]
    assert answers[0]["token_ids"] == answers[1]["token_ids"]
    assert answers[1]["prompt_tokens"] > 100
    assert answers[1]["stats"]["drafted"] > 0


def test_all_parts_of_a_target_count(target: Path) -> None:
    first = target.rename(target.with_name("gemma-4-E2B-Q4_0-00001-of-00002.gguf"))
    second = target.with_name("gemma-4-E2B-Q4_0-00002-of-00002.gguf")
    second.touch()
    grown(second, 2 * memory.main_memory().total)
    with pytest.raises(LocalmtpError, match="GB with a context"):
        placed(first)
