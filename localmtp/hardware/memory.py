"""Main memory, with the limit of a container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")

_MIN_HEADROOM = 1 << 29
_HEADROOM_SHARE = 16


@dataclass(frozen=True, slots=True)
class MainMemory:
    """Main memory in bytes; in a container, its limit is the total."""

    total: int
    available: int
    """Available without swapping; files in the page cache count as free."""

    @property
    def usable(self) -> int:
        """Memory for a model: a sixteenth of the total, at least 512 MiB, is left free."""
        return max(0, self.available - max(_MIN_HEADROOM, self.total // _HEADROOM_SHARE))


def main_memory() -> MainMemory:
    """Returns the main memory as it is now."""
    import psutil  # type: ignore[import-untyped]

    whole = psutil.virtual_memory()
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if limit is None or used is None or limit >= whole.total:
        return MainMemory(whole.total, whole.available)
    return MainMemory(limit, min(whole.available, max(0, limit - used)))


def _cgroup_bytes(name: str) -> int | None:
    file = _CGROUP / name
    text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None
