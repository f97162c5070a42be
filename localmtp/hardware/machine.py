"""What this machine has: cores, memory, and how fast it reads it."""

from __future__ import annotations

import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")

_LEAST_HEADROOM = 1 << 29
_HEADROOM_SHARE = 16


_TELLING_INSTRUCTIONS = {
    # As /proc/cpuinfo names them: as libllama does.
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx_vnni": "AVX_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
}


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
        name = re.search(r"^model name\s*:(.*)$", _CPUINFO.read_text("utf-8"), re.MULTILINE)
        if name:
            return name[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may compute on: hardware threads of one core count once.

    A core's second thread adds nothing to matrix products, and makes the first wait.
    """
    import psutil

    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or usable
    return int(min(usable, physical))


def usage() -> tuple[float, float]:
    """Seconds of computing: by this process, and left idle by the cores that it may use.

    Both count from some moment in the past, all threads and all cores together.
    """
    import psutil

    times = psutil.cpu_times(percpu=True)
    affinity = getattr(os, "sched_getaffinity", None)
    mine = affinity(0) if affinity else range(len(times))
    idle = sum(times[i].idle + getattr(times[i], "iowait", 0.0) for i in mine if i < len(times))
    return process_time(), idle


def instructions() -> tuple[str, ...]:
    """The instruction sets and libraries that libllama was built for."""
    from localmtp.engine.llama import system_info

    return tuple(re.findall(r"(\w+) = 1", system_info()))


def processor_instructions() -> set[str]:
    """Those instruction sets of this processor that matter here, by libllama's names."""
    if platform.system() != "Linux":
        return set()
    flags = re.search(r"^flags\s*:(.*)$", _CPUINFO.read_text(encoding="utf-8"), re.MULTILINE)
    had = set(flags[1].split()) if flags else set()
    return {name for flag, name in _TELLING_INSTRUCTIONS.items() if flag in had}


def bandwidth() -> float:
    """Bytes per second that all cores together read from memory, measured in about a second.

    The best of several runs over a block far larger than any cache, as the STREAM benchmark does
    it (McCalpin 1995); looking for a maximum only reads, which is what decoding does with weights,
    and of integers it is numpy's fastest pass. On a busy machine it is what is left.
    """
    import numpy as np

    workers = cores()
    block = np.ones(min(1 << 28, memory().available // 8) // 8, np.int64)
    parts = np.array_split(block, workers)
    best = 0.0
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(8):
            began = perf_counter()
            # numpy releases the interpreter's lock in its loops.
            list(pool.map(np.ndarray.max, parts))
            best = max(best, block.nbytes / (perf_counter() - began))
    return best


def _cgroup_bytes(name: str) -> int | None:
    file = _CGROUP / name
    text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None
