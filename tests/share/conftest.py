"""The program, a hub that accepts uploads, and a directory of converted files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from localmtp.convert import Options, convert
from tests.convert.checkpoints import write_checkpoint
from tests.hub import Hub
from tests.models.conftest import Program

TOKEN = "hf_writer"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with one user, `someone`."""
    with Hub().running() as running:
        running.store.writers[TOKEN] = "someone"
        yield running


@pytest.fixture
def program(tmp_path: Path, hub: Hub) -> Program:
    """The program logged in as `someone`, with Git LFS; Xet needs other servers."""
    home = tmp_path / "home"
    home.mkdir()
    program = Program(home, hub.endpoint)
    program.environment |= {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    return program


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of `localmtp convert`: a target in two quantization types, and its drafter."""
    folder = tmp_path_factory.mktemp("converted")
    target = write_checkpoint(folder / "tiny-it", "E2B")
    drafter = write_checkpoint(folder / "tiny-it-assistant", "E2B-assistant")
    options = Options(quants=["BF16", "Q4_0"], quantized_by="someone")
    convert(target, folder / "out", drafter_source=drafter, options=options)
    return folder / "out"


@pytest.fixture
def directory(tmp_path: Path, converted: Path) -> Path:
    """A copy of the same files that a test may change."""
    return Path(copytree(converted, tmp_path / "gguf"))
