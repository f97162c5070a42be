"""Limits the resident memory of mapped files whose weights are read once.

libllama maps a model's file and prefetches all of it. The pages count as the process's memory until
the system reclaims them. Released early, they remain in the page cache, where reading them again
costs only a page fault.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_GGUF = re.compile(r"^(\w+)-(\w+) r--s .*\.gguf$", re.MULTILINE)
_DONTNEED = 4  # MADV_DONTNEED of Linux: of a shared mapping, drops no data

_PERIOD = 0.005
"""Seconds between releases: 10 to 100 MB at memory speed."""

_HEAD = 64 << 20
"""Bytes at the beginning of each mapping that are not released: libllama unmaps the metadata after
reading it, and other memory may be mapped there."""


@contextmanager
def few_pages_resident() -> Iterator[None]:
    """Release pages of mapped GGUF files repeatedly while the block runs.

    No model may be freed inside the block: other memory might be mapped in its place. Without
    /proc, nothing happens.
    """
    if not _MAPS.exists():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_give_back_until, args=(ended,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _give_back_until(ended: threading.Event) -> None:
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    while not ended.wait(_PERIOD):
        for match in _GGUF.finditer(_MAPS.read_text("utf-8", "surrogateescape")):
            start, end = int(match[1], 16) + _HEAD, int(match[2], 16)
            if start < end:
                advise(start, end - start, _DONTNEED)
