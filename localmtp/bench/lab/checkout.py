"""Parts of a checkout that are not installed: the tests, with their generated models and hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
"""The checkout's root, if the package runs from one."""


@contextmanager
def imports_from_tests() -> Iterator[None]:
    """Let the block import from `tests`, or end the program with one line.

    Raises:
        SystemExit: the package does not run from a checkout.
    """
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "tests":
            raise
        raise SystemExit("error: this needs a checkout of localmtp, with its tests") from error
