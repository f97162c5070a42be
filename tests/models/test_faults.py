"""Pulling through faults of the network, the server and the disk."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.hub import Hub
from tests.models.conftest import Pair, Program
from tests.posix import needs_resource_limits

REPO = "someone/gemma-4-tiny-GGUF"
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
runpy.run_module("localmtp", run_name="__main__")
"""
"""The program with a limit on file sizes, which acts like a full disk."""

KILLS = 4
"""Enough to hit header requests, transfers and bookkeeping; fifty were run by hand."""


def publish(hub: Hub, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})


def holds(program: Program, pair: Pair) -> bool:
    """Reports whether the cache has both files complete, and no leftovers."""
    found = {path.name: path.read_bytes() for path in program.cache.rglob("*.gguf")}
    leftovers = list(program.cache.rglob("*.incomplete"))
    return not leftovers and found == {
        "tiny-Q8_0.gguf": pair.target,
        "mtp-tiny.gguf": pair.drafter,
    }


def test_broken_connections_are_resumed(hub: Hub, program: Program, large_pair: Pair) -> None:
    publish(hub, large_pair)
    hub.faults.cuts = [0, 1, 3_000_000, 2_500_000, 700_001]
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert holds(program, large_pair)
    assert hub.sent < 1.5 * sum(map(len, large_pair))


def test_a_server_without_ranges_works(hub: Hub, program: Program, large_pair: Pair) -> None:
    publish(hub, large_pair)
    hub.faults.ignores_ranges = True
    hub.faults.cuts = [3_000_000, 5_000_000]
    assert program("pull", REPO).returncode == 0
    assert holds(program, large_pair)


def test_a_stalled_connection_is_closed_and_resumed(
    hub: Hub, program: Program, large_pair: Pair
) -> None:
    publish(hub, large_pair)
    hub.faults.stalls = 1
    assert program("pull", REPO, HF_HUB_DOWNLOAD_TIMEOUT="3").returncode == 0
    assert holds(program, large_pair)


def test_server_errors_and_rate_limits_are_retried(hub: Hub, program: Program, pair: Pair) -> None:
    publish(hub, pair)
    hub.faults.statuses = [503, 0, 500, 0, 0, 429, 0, 0, 502]
    hub.faults.retry_after = "0"
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert holds(program, pair)


def test_a_permanent_server_error_is_one_line(hub: Hub, program: Program, pair: Pair) -> None:
    publish(hub, pair)
    hub.faults.statuses = [503] * 100
    hub.faults.retry_after = "0"
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert f"the hub cannot serve {REPO} now (status 503)" in pulled.stderr
    assert pulled.stderr.count("\n") == 2
    assert 90 < len(hub.faults.statuses) < 99


def test_an_unreachable_server_is_one_line(hub: Hub, program: Program) -> None:
    hub.stop()
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert f"cannot reach {hub.endpoint}" in pulled.stderr


def test_damaged_files_are_discarded(hub: Hub, program: Program, large_pair: Pair) -> None:
    publish(hub, large_pair)
    hub.faults.damaged = 1
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert "arrived damaged" in pulled.stderr
    assert not list(program.cache.rglob("*.gguf"))
    assert program("pull", REPO).returncode == 0
    assert holds(program, large_pair)


def test_a_pull_completes_after_kills_at_random_moments(
    hub: Hub, program: Program, large_pair: Pair
) -> None:
    publish(hub, large_pair)
    hub.faults.bytes_per_second = 2e7
    moments = random.Random(0)
    for _ in range(KILLS):
        reached = hub.sent + moments.uniform(0, 0.4) * len(large_pair.target)
        process = program.start("pull", REPO)
        while hub.sent < reached and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        for blob in program.cache.rglob("blobs/*"):
            if ".incomplete" not in blob.name:
                assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    hub.faults.bytes_per_second = 0
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert holds(program, large_pair)


def test_two_concurrent_pulls_download_once(hub: Hub, program: Program, large_pair: Pair) -> None:
    publish(hub, large_pair)
    hub.faults.bytes_per_second = 2e7
    both = [program.start("pull", REPO) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert holds(program, large_pair)
    assert hub.sent < 1.5 * sum(map(len, large_pair))


def test_a_deleted_blob_is_downloaded_again(hub: Hub, program: Program, pair: Pair) -> None:
    publish(hub, pair)
    program("pull", REPO)
    for blob in program.cache.rglob("blobs/*"):
        blob.unlink()
    offline = program("run", REPO, "hi", "--offline")
    assert "is not on this machine" in offline.stderr
    assert program("run", REPO, "hi", "--max-tokens", "2").returncode == 0
    assert holds(program, pair)


def test_a_read_only_cache_is_named(hub: Hub, program: Program, pair: Pair, tmp_path: Path) -> None:
    publish(hub, pair)
    obstacle = tmp_path / "file"
    obstacle.write_text("")
    pulled = program("pull", REPO, HF_HUB_CACHE=str(obstacle / "cache"))
    assert pulled.returncode == 1
    assert str(obstacle) in pulled.stderr
    assert "HF_HOME" in pulled.stderr


def test_a_pull_larger_than_the_disk_is_refused_first(
    hub: Hub, program: Program, pair: Pair
) -> None:
    parts = [f"tiny-Q8_0-{n:05}-of-00040.gguf" for n in range(1, 41)]
    hub.publish(REPO, dict.fromkeys(parts, pair.target))
    hub.faults.claimed_size = 49 * 10**9
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert "not enough disk space: 1960.00 GB are needed" in pulled.stderr
    assert "`localmtp rm MODEL` frees space" in pulled.stderr
    assert len(hub.downloads()) <= 2


@needs_resource_limits
def test_a_failed_write_leaves_the_received_part(
    hub: Hub, program: Program, large_pair: Pair
) -> None:
    publish(hub, large_pair)
    limited = (sys.executable, "-c", LIMITED, str(3 << 20), "pull", REPO)
    done = subprocess.run(limited, env=program.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "the download will resume" in done.stderr
    assert not list(program.cache.rglob("*.gguf"))
    sent = hub.sent
    assert program("pull", REPO).returncode == 0
    assert holds(program, large_pair)
    assert hub.sent - sent < sum(map(len, large_pair)) - (2 << 20)


def test_a_file_shorter_than_announced_is_refused(hub: Hub, program: Program, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target})
    hub.faults.claimed_size = len(pair.target) + 100
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert f"{REPO}/tiny-Q8_0.gguf is shorter than the hub says" in pulled.stderr
    assert not list(program.cache.rglob("*.gguf"))


def test_an_invalid_header_is_refused_before_the_download(
    hub: Hub, program: Program, large_pair: Pair
) -> None:
    lie = large_pair.target[:8] + b"\xff" * 16 + large_pair.target[24:]
    hub.publish(REPO, {"tiny-Q8_0.gguf": lie})
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert "damaged GGUF header" in pulled.stderr
    assert hub.sent < len(lie)
