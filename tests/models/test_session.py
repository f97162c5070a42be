"""From an empty cache to an answer, and again without the hub, with the embedded pair."""

from __future__ import annotations

import json
from pathlib import Path

import localmtp.models
from tests.hub import Hub
from tests.models.conftest import Program

FILES = Path(localmtp.models.__file__).with_name("nano")
ENTRY = """
[small.quants.Q8_0]
target = "someone/targets-GGUF/nano-Q8_0.gguf"
drafter = "someone/drafters-GGUF/mtp-nano-Q8_0.gguf"
"""
ASK = ("run", "small", "Count from 1 to 5.", "--temp", "0", "--max-tokens", "12", "--json")
FLAGS = ("--threads", "1", "--n-draft", "2")


def test_a_pulled_model_answers_with_and_without_the_hub(hub: Hub, program: Program) -> None:
    for repo, name in (("targets", "nano-Q8_0.gguf"), ("drafters", "mtp-nano-Q8_0.gguf")):
        hub.publish(f"someone/{repo}-GGUF", {name: (FILES / name).read_bytes()})
    program.configure("models.toml", ENTRY)
    pulled = program("pull", "small")
    assert "small:Q8_0: nano-Q8_0.gguf, drafter mtp-nano-Q8_0.gguf" in pulled.stdout
    requests = len(hub.requests)
    first = json.loads(program(*ASK, *FLAGS).stdout)
    assert (first["model"], first["drafter"]) == ("small:Q8_0", "mtp-nano-Q8_0")
    assert first["stats"]["accepted"] > 0
    offline = json.loads(program(*ASK, *FLAGS, "--offline").stdout)
    assert len(hub.requests) == requests
    hub.stop()
    again = json.loads(program(*ASK, *FLAGS).stdout)
    assert first["text"] == offline["text"] == again["text"]
