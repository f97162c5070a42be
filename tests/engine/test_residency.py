"""Pages of mapped models are given back while they are read."""

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
"""More than what is left alone at a mapping's front."""


def mapped_files() -> int:
    """Resident bytes of this process that belong to files."""
    return int(psutil.Process().memory_info().shared)


def becomes(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute."""
    until = monotonic() + 60
    while not (met := condition()) and monotonic() < until:
        sleep(0.01)
    return met


def test_pages_of_models_leave_and_their_bytes_stay(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(256)) * (MAPPED // 256))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        before = mapped_files()
        assert data.find(b"nowhere") == -1
        assert mapped_files() - before > LEFT
        with few_pages_resident():
            assert becomes(lambda: mapped_files() - before < LEFT)
            assert data[MAPPED - 256 :] == bytes(range(256))
