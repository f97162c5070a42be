"""Downloads where the file system has no symbolic links, as on Windows without developer mode."""

from __future__ import annotations

from tests.hub import Hub
from tests.models.conftest import Pair, Program

REPO = "someone/gemma-4-tiny-GGUF"
NO_LINKS = {"HF_HUB_DISABLE_SYMLINKS": "1"}


def test_a_model_is_pulled_once_and_removed_whole(hub: Hub, program: Program, pair: Pair) -> None:
    hub.publish(REPO, {"sub/tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})
    for _ in range(2):
        done = program("pull", REPO, **NO_LINKS)
        assert done.returncode == 0
        assert "symlink" not in done.stderr
    # Headers are read twice, files transferred once.
    assert hub.sent < 2 * (len(pair.target) + len(pair.drafter))
    sizes = [path.stat().st_size for path in program.cache.rglob("*") if path.is_file()]
    assert {size for size in sizes if size > 1000} == {len(pair.target), len(pair.drafter)}
    assert len([size for size in sizes if size > 1000]) == 2
    assert "tiny" in program("list", **NO_LINKS).stdout
    assert program("rm", REPO, "--yes", **NO_LINKS).returncode == 0
    left = [path.stat().st_size for path in program.cache.rglob("*") if path.is_file()]
    assert max(left) < 1000
