"""What this machine has: cores, memory, and how fast it reads it."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_CGROUP = Path("/sys/fs/cgroup")

_LEAST_HEADROOM = 1 << 29
_HEADROOM_SHARE = 16


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory, in bytes; a container's limit counts as the machine's."""

    total: int
    available: int
    """What can be used without swapping; files in the page cache count as free."""

    @property
    def usable(self) -> int:
        """What a model may take, leaving a sixteenth, or half a gigabyte, to everything else."""
        return max(0, self.available - max(_LEAST_HEADROOM, self.total // _HEADROOM_SHARE))


def memory() -> Memory:
    """Main memory as it is now."""
    import psutil  # type: ignore[import-untyped]

    whole = psutil.virtual_memory()
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if limit is None or used is None or limit >= whole.total:
        return Memory(whole.total, whole.available)
    return Memory(limit, min(whole.available, max(0, limit - used)))


def processor() -> str:
    """The processor's name."""
    if platform.system() == "Linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bandwidth() -> float:
    """Bytes per second that all cores together read from memory, measured in about a second.

    The best of several runs over a block far larger than any cache, as the STREAM benchmark does
    it (McCalpin 1995); summing only reads, which is what decoding does with weights.
    """
    import numpy as np

    workers = cores()
    block = np.ones(min(1 << 28, memory().available // 8) // 8, np.float64)
    parts = np.array_split(block, workers)
    best = 0.0
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(8):
            began = perf_counter()
            # numpy releases the interpreter's lock in its loops.
            list(pool.map(np.ndarray.sum, parts))
            best = max(best, block.nbytes / (perf_counter() - began))
    return best


def _cgroup_bytes(name: str) -> int | None:
    file = _CGROUP / name
    text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None
