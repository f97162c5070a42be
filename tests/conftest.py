"""What every test needs: user directories of its own, and programs that can be interrupted."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing is read from or left in the directories of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "DATA", "STATE"):
            patch.setitem(os.environ, f"XDG_{kind}_HOME", str(home / kind.lower()))
        yield home


# Who runs the tests in the background may ignore SIGINT, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
