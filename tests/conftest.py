"""For all tests: folders of their own, programs that can be interrupted, tests of devices."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import move_user_folders


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Redirects the user's directories, so that tests neither read nor change them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "DATA", "STATE"):
            move_user_folders(patch, home / kind.lower(), kind)
        yield home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `device` where libllama has none."""
    on_device = [item for item in items if item.get_closest_marker("device")]
    if on_device:
        from localmtp.engine.llama.ggml import devices

        if not devices():
            for item in on_device:
                item.add_marker(pytest.mark.skip(reason="libllama finds no GPU"))


# A shell's background jobs ignore SIGINT, and so would the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
