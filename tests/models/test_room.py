"""Pairs that are too large for this machine, made of holes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localmtp import machine
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.models.room import DEFAULT_CONTEXT, context_for
from tests.pairs import REAL, write_pair


def grown(path: Path, nbytes: int) -> None:
    """Lengthen a file by a hole."""
    with path.open("r+b") as file:
        file.truncate(nbytes)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "gemma-4-E2B-Q4_0.gguf"
    write_pair(REAL["gemma4-e2b"], path, tmp_path / "mtp-gemma-4-E2B.gguf", hollow=True)
    return path


def test_what_fits_gets_the_default_or_what_was_asked_for(target: Path) -> None:
    grown(target, 1 << 29)
    files = resolve(str(target))
    assert context_for(files, None) == DEFAULT_CONTEXT
    assert context_for(files, 4096) == 4096


def test_what_does_not_fit_is_refused_before_it_is_loaded(target: Path) -> None:
    grown(target, 2 * machine.memory().total)
    with pytest.raises(LocalmtpError, match="GB with a context of 8192") as caught:
        context_for(resolve(str(target)), None)
    assert "doctor" in caught.value.hint


def test_a_smaller_context_is_proposed(tmp_path: Path) -> None:
    target = tmp_path / "gemma-4-31B-Q4_0.gguf"
    size = replace(REAL["gemma4-31b"], context=1 << 24)
    write_pair(size, target, tmp_path / "mtp-gemma-4-31B.gguf", hollow=True)
    grown(target, 1 << 29)
    with pytest.raises(LocalmtpError) as caught:
        context_for(resolve(str(target)), 1 << 24)
    assert "--ctx" in caught.value.hint


def test_a_pair_that_only_fits_without_its_drafter_is_not_split_silently(target: Path) -> None:
    grown(target, 1 << 29)
    drafter = target.with_name("mtp-gemma-4-E2B.gguf")
    grown(drafter, 2 * machine.memory().total)
    with pytest.raises(LocalmtpError) as caught:
        context_for(resolve(str(target)), None)
    assert "--drafter none" in caught.value.hint
