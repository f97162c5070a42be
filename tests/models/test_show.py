"""`localmtp show` and `pull` for models that are not installed."""

from __future__ import annotations

import json

import pytest

from tests.hub import Hub
from tests.models.conftest import Pair, Program

REPO = "someone/gemma-4-tiny-GGUF"
OWN_ENTRY = f"""
[small]
licence = "Apache-2.0"
n_draft = 2

[small.quants.Q8_0]
target = "{REPO}/tiny-Q8_0.gguf"
drafter = "someone/drafters-GGUF/mtp-tiny.gguf"
"""


@pytest.fixture
def published(hub: Hub, large_pair: Pair) -> Pair:
    hub.publish(REPO, {"tiny-Q8_0.gguf": large_pair.target})
    hub.publish("someone/drafters-GGUF", {"mtp-tiny.gguf": large_pair.drafter})
    return large_pair


def test_a_repository_is_shown_from_its_headers(
    hub: Hub, program: Program, published: Pair
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": published.target, "mtp-tiny.gguf": published.drafter})
    facts = json.loads(program("show", REPO, "--json").stdout)
    assert not facts["installed"]
    assert facts["target"] == f"{REPO}/tiny-Q8_0.gguf"
    assert facts["drafter"] == f"{REPO}/mtp-tiny.gguf"
    assert "embedding length 64" in facts["why_drafter"]
    assert "neither is QAT" in facts["why_drafter"]
    assert facts["download"] == len(published.target) + len(published.drafter)
    assert facts["n_layers"] == 6
    assert [row["context"] for row in facts["memory"]] == [1024]
    assert facts["context_here"] == 1024
    assert hub.sent < len(published.drafter)
    assert not list(program.cache.rglob("*.gguf"))


def test_an_entry_is_shown_from_the_headers_of_both_its_repositories(
    hub: Hub, program: Program, published: Pair
) -> None:
    program.configure("models.toml", OWN_ENTRY)
    shown = program("show", "small").stdout
    for words in (
        "small:Q8_0",
        "Apache-2.0",
        "someone/drafters-GGUF/mtp-tiny.gguf",
        "fits this machine",
    ):
        assert words in shown
    before = json.loads(program("show", "small", "--json").stdout)
    assert before["first_draft_length"] == 2
    program("pull", "small")
    after = json.loads(program("show", "small", "--json").stdout)
    assert after["installed"]
    same = {"model", "quant", "why_drafter", "licence", "memory", "context_length", "n_vocab"}
    assert {key: before[key] for key in same} == {key: after[key] for key in same}


def test_a_missing_drafter_is_shown_with_the_reason(
    hub: Hub, program: Program, published: Pair, fork_drafter: bytes
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": published.target, "mtp-tiny.gguf": fork_drafter})
    facts = json.loads(program("show", REPO, "--json").stdout)
    assert facts["drafter"] == ""
    assert "gemma4_assistant" in facts["why_no_drafter"]


def test_offline_details_come_from_the_registry(program: Program, hub: Hub) -> None:
    facts = json.loads(program("show", "gemma4-12b", "--offline", "--json").stdout)
    assert hub.requests == []
    assert "is not on this machine" in facts["warnings"][0]
    assert facts["bytes"] == 6_975_879_296
    assert facts["projector"].startswith("google/gemma-4-12B-it-qat-q4_0-gguf/mmproj")
    unknown = program("show", REPO, "--offline")
    assert unknown.returncode == 1
    assert f"{REPO} is not on this machine" in unknown.stderr


def test_pull_reports_size_and_fit_first(hub: Hub, program: Program, published: Pair) -> None:
    program.configure("models.toml", OWN_ENTRY)
    reported = program("pull", "small").stderr
    megabytes = (len(published.target) + len(published.drafter)) / 1e6
    assert f"small:Q8_0: {megabytes:.1f} MB to download, fits this machine" in reported
    assert "to download" not in program("pull", "small").stderr
