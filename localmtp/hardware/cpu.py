"""The processor: cores, load, instruction sets."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from time import process_time

_CPUINFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/stat")

_INSTRUCTIONS = {
    # By the flags of /proc/cpuinfo: the names of `llama_print_system_info`.
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx_vnni": "AVX_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
}
"""Instruction sets that matrix products gain from."""


def processor() -> str:
    """Returns the processor's name."""
    if platform.system() == "Linux":
        name = re.search(r"^model name\s*:(.*)$", _CPUINFO.read_text("utf-8"), re.MULTILINE)
        if name:
            return name[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Counts the physical cores that this process may run on.

    The second hardware thread of a core adds nothing to matrix products, and slows down the first.
    """
    import psutil  # type: ignore[import-untyped]

    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or usable
    return int(min(usable, physical))


def usage() -> tuple[float, float]:
    """Returns CPU seconds used by this process, and seconds that its cores were idle.

    Both are sums over all threads and cores, counted from an arbitrary moment in the past.
    """
    import psutil

    times = psutil.cpu_times(percpu=True)
    affinity = getattr(os, "sched_getaffinity", None)
    mine = affinity(0) if affinity else range(len(times))
    idle = sum(times[i].idle + getattr(times[i], "iowait", 0.0) for i in mine if i < len(times))
    return process_time(), idle


def is_idle() -> bool:
    """Whether no other process is running at the moment; False where the system does not say."""
    try:
        running = re.search(r"^procs_running (\d+)$", _STAT.read_text("ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return False
    return running is not None and int(running[1]) <= 1


def built_features() -> tuple[str, ...]:
    """Returns the instruction sets and libraries that libllama was built for."""
    from localmtp.engine.llama import system_info

    return tuple(re.findall(r"(\w+) = 1", system_info()))


def instruction_sets() -> set[str]:
    """Returns the relevant instruction sets of this processor, by libllama's names.

    Empty where the system does not list them (anything but Linux).
    """
    if platform.system() != "Linux":
        return set()
    line = re.search(r"^flags\s*:(.*)$", _CPUINFO.read_text("utf-8"), re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    return {name for flag, name in _INSTRUCTIONS.items() if flag in flags}
