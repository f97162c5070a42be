"""The cache and the environment variables are those of huggingface_hub."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.hub import Hub
from tests.models.conftest import Pair, Program

REPO = "someone/gemma-4-tiny-GGUF"
CLIENT = "import sys, huggingface_hub as hf; print(hf.hf_hub_download(*sys.argv[1:]))"


@pytest.fixture(autouse=True)
def published(hub: Hub, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})


def client(program: Program, file: str, **environment: str) -> str:
    """Returns the path at which huggingface_hub finds a file."""
    command = (sys.executable, "-c", CLIENT, REPO, file)
    variables = program.environment | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_files_downloaded_by_other_programs_are_found(hub: Hub, program: Program) -> None:
    paths = [client(program, name) for name in ("tiny-Q8_0.gguf", "mtp-tiny.gguf")]
    hub.stop()
    assert REPO in program("list").stdout
    assert paths[1] in program("show", REPO).stdout
    assert client(program, "tiny-Q8_0.gguf", HF_HUB_OFFLINE="1") == paths[0]


def test_pulled_files_are_found_by_other_programs(hub: Hub, program: Program, pair: Pair) -> None:
    program("pull", REPO)
    hub.stop()
    path = client(program, "tiny-Q8_0.gguf", HF_HUB_OFFLINE="1")
    with open(path, "rb") as file:
        assert file.read() == pair.target


def test_hf_hub_offline_is_honoured(hub: Hub, program: Program) -> None:
    refused = program("pull", REPO, HF_HUB_OFFLINE="1")
    assert refused.returncode == 1
    assert "HF_HUB_OFFLINE is set" in refused.stderr
    assert hub.requests == []


def test_hf_home_is_honoured(program: Program) -> None:
    elsewhere = program.home / "elsewhere"
    assert program("pull", REPO, HF_HOME=str(elsewhere)).returncode == 0
    assert REPO in program("list", HF_HOME=str(elsewhere)).stdout
    assert REPO not in program("list").stdout


def test_proxies_are_used(hub: Hub, program: Program) -> None:
    proxied = {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.endpoint, "NO_PROXY": ""}
    pulled = program("pull", REPO, **proxied, http_proxy=hub.endpoint, no_proxy="")
    assert pulled.returncode == 0, pulled.stderr
    assert hub.downloads()
