"""Memory bandwidth, measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from localmtp.hardware.cpu import cores
from localmtp.hardware.memory import main_memory

_BLOCK_BYTES = 1 << 28
"""Far larger than any cache."""

_REPEATS = 8


def memory_bandwidth() -> float:
    """Measures the read bandwidth of all cores together; takes about a second.

    The best of several passes counts, as in the STREAM benchmark (McCalpin 1995). A pass takes the
    maximum of an array of integers: it only reads, as decoding does with weights, and is numpy's
    fastest. On a busy machine the result is the bandwidth that is left.

    Returns:
        Bytes per second.
    """
    import numpy as np

    workers = cores()
    block = np.ones(min(_BLOCK_BYTES, main_memory().available // 8) // 8, np.int64)
    parts = np.array_split(block, workers)
    best = 0.0
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(_REPEATS):
            began = perf_counter()
            # numpy releases the interpreter lock in its loops.
            list(pool.map(np.ndarray.max, parts))
            best = max(best, block.nbytes / (perf_counter() - began))
    return best
