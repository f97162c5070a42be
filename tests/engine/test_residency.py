"""Pages of mapped models are released while they are read."""

import mmap
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import psutil  # type: ignore[import-untyped]
import pytest

from localmtp.engine.llama.residency import few_pages_resident

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")

MAPPED = 192 << 20
LEFT = 96 << 20
"""Larger than the part at the beginning of a mapping that is not released."""


def mapped_files() -> int:
    """Returns resident bytes of this process that are mapped files."""
    return int(psutil.Process().memory_info().shared)


def becomes(condition: Callable[[], bool]) -> bool:
    """Waits up to a minute for a condition."""
    until = monotonic() + 60
    while not (met := condition()) and monotonic() < until:
        sleep(0.01)
    return met


def test_pages_are_released_and_results_are_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(256)) * (MAPPED // 256))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        before = mapped_files()
        assert data.find(b"nowhere") == -1
        assert mapped_files() - before > LEFT
        with few_pages_resident():
            assert becomes(lambda: mapped_files() - before < LEFT)
            assert data[MAPPED - 256 :] == bytes(range(256))
