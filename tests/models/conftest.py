"""A hub on loopback, small pairs, and the program with an empty home directory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.folders import user_folders
from tests.hub import Hub
from tests.pairs import TINY, write_drafter, write_target


class Pair(NamedTuple):
    """The bytes of two GGUF files."""

    target: bytes
    drafter: bytes


class Program:
    """`localmtp` as a process, with its own home directory."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.home = home
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))},
            "HOME": str(home),
            **user_folders(home / ".config", "CONFIG"),
            "USERPROFILE": str(home),
            "HF_ENDPOINT": endpoint,
            "COLUMNS": "200",
        }
        self.cache = home / ".cache" / "huggingface" / "hub"

    def configure(self, name: str, text: str) -> None:
        """Writes a file into the configuration folder."""
        folder = self.home / ".config" / "localmtp"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "localmtp", *arguments],
            env=self.environment | environment,
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, *arguments: str, typed: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end, with `typed` on standard input."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(typed, timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty hub."""
    with Hub().running() as running:
        yield running


@pytest.fixture
def program(tmp_path: Path, hub: Hub) -> Program:
    """The program, with `HF_ENDPOINT` set to `hub`."""
    home = tmp_path / "home"
    home.mkdir()
    return Program(home, hub.endpoint)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A small target and its drafter, without QAT."""
    return _pair(tmp_path_factory.mktemp("pair"), "Tiny")


@pytest.fixture(scope="session")
def qat_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The same with quantization-aware training."""
    return _pair(tmp_path_factory.mktemp("qat"), "Tiny Qat")


@pytest.fixture(scope="session")
def large_pair(pair: Pair) -> Pair:
    """The same with 8 MB appended to each file, for interrupted transfers."""
    rest = random.Random(0).randbytes(8 << 20)
    return Pair(pair.target + rest, pair.drafter + rest)


@pytest.fixture(scope="session")
def other_drafter(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A drafter made for another target."""
    path = tmp_path_factory.mktemp("other") / "drafter.gguf"
    write_drafter(replace(TINY["e"], embedding=96), path)
    return path.read_bytes()


@pytest.fixture(scope="session")
def fork_drafter(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A drafter in the format of a llama.cpp fork."""
    path = tmp_path_factory.mktemp("fork") / "drafter.gguf"
    write_drafter(TINY["e"], path, architecture="gemma4_assistant")
    return path.read_bytes()


def _pair(folder: Path, name: str) -> Pair:
    write_target(TINY["e"], folder / "target.gguf", name=name)
    write_drafter(TINY["e"], folder / "drafter.gguf", name=f"{name} Assistant")
    return Pair((folder / "target.gguf").read_bytes(), (folder / "drafter.gguf").read_bytes())
