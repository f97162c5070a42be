"""Number of generated inputs, their seeds, and limits on time and memory.

Environment variables:
    LOCALMTP_FUZZ_EXAMPLES: inputs per test, times the test's factor; `make fuzz` sets it.
    LOCALMTP_FUZZ_SEED: first seed; a failure names the seed that reproduces it with one example.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

HANG_S = 120
"""One input that takes longer ends the process with a traceback."""


def examples(default: int, factor: float = 1) -> int:
    """Number of inputs: `default` in CI, `factor` times the requested number otherwise.

    Args:
        default: number without LOCALMTP_FUZZ_EXAMPLES.
        factor: above 1 for tests whose inputs take milliseconds, below 1 for seconds.
    """
    requested = os.environ.get("LOCALMTP_FUZZ_EXAMPLES")
    return max(1, int(int(requested) * factor)) if requested else default


def seeds(count: int) -> range:
    """Consecutive seeds, one per input."""
    first = int(os.environ.get("LOCALMTP_FUZZ_SEED", "0"))
    return range(first, first + count)


@contextmanager
def one_input(seed: int) -> Iterator[Random]:
    """Yield the random numbers of one input; name the seed if the input fails or hangs."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    try:
        yield Random(seed)
    except BaseException as error:
        error.add_note(f"LOCALMTP_FUZZ_SEED={seed} LOCALMTP_FUZZ_EXAMPLES=1 reproduces it")
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def peak_memory(most_megabytes: int) -> Iterator[None]:
    """Fail if the process's peak of resident memory grows by more than a bound.

    Not measured on Windows, which has no `resource` module.
    """
    before = _peak()
    yield
    grown = (_peak() - before) >> 20
    assert grown <= most_megabytes, f"peak memory grew by {grown} MiB"


def _peak() -> int:
    """Peak of the process's resident memory in bytes."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
