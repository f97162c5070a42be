"""Weights that are needed once: keeping mapped files from filling a process's memory.

libllama maps a model's file and has the system read all of it in at once. The pages count as the
process's own until the system wants them back. Given back early they are still in the page cache,
where they cost a look-up when they are read again, and nobody's memory.
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
"""Seconds; at memory's speed some ten to a hundred megabytes."""

_HEAD = 64 << 20
"""At the front of each mapping, left alone: libllama unmaps the metadata when it has read it, and
what comes to lie there must not be dropped."""


@contextmanager
def few_pages_resident() -> Iterator[None]:
    """Give pages of mapped GGUF files back again and again while the block runs.

    No model may be freed inside the block: other memory might take its place. Where there is no
    /proc nothing happens.
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
