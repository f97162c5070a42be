"""Separate user directories for the tests, and programs that can be interrupted."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Redirects the user's directories, so that tests neither read nor change them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "DATA", "STATE"):
            patch.setitem(os.environ, f"XDG_{kind}_HOME", str(home / kind.lower()))
        yield home


# A shell that runs the tests in the background ignores SIGINT, and child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
