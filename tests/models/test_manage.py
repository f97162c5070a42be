"""`localmtp list`, `show` and `rm`, and the default model."""

from __future__ import annotations

import json

from tests.hub import Hub
from tests.models.conftest import Pair, Program

REPO = "someone/gemma-4-tiny-GGUF"
OWN_ENTRIES = """
[small.quants.Q8_0]
target = "someone/gemma-4-tiny-GGUF/tiny-Q8_0.gguf"
drafter = "someone/gemma-4-tiny-GGUF/mtp-tiny.gguf"

[small.quants.Q4_0]
target = "someone/gemma-4-tiny-GGUF/tiny-Q4_0.gguf"
drafter = "someone/gemma-4-tiny-GGUF/mtp-tiny.gguf"
"""


def publish(hub: Hub, pair: Pair) -> None:
    files = {"tiny-Q8_0.gguf": pair.target + b"\0", "tiny-Q4_0.gguf": pair.target}
    hub.publish(REPO, files | {"mtp-tiny.gguf": pair.drafter})


def test_a_pulled_model_is_listed_and_shown(hub: Hub, program: Program, pair: Pair) -> None:
    publish(hub, pair)
    program("pull", f"{REPO}:Q8_0")
    hub.stop()
    rows = {row["model"]: row for row in json.loads(program("list", "--json").stdout)}
    assert set(rows) == {"nano", f"{REPO}:Q8_0"}
    row = rows[f"{REPO}:Q8_0"]
    assert row["drafter"] == "mtp-tiny.gguf"
    assert row["bytes"] == len(pair.target) + 1
    assert row["context"] == 1024
    table = program("list").stdout
    assert REPO in table
    assert "nano" in table
    facts = json.loads(program("show", REPO, "--json").stdout)
    assert facts["n_layers"] == 6
    assert facts["drafter"].endswith("mtp-tiny.gguf")
    assert facts["memory"][-1]["context"] == 1024
    assert "mtp-tiny.gguf" in program("show", REPO).stdout


def test_the_registry_can_be_listed(program: Program) -> None:
    rows = json.loads(program("list", "--all", "--json").stdout)
    names = {row["model"].partition(":")[0] for row in rows}
    sizes = {"gemma4-e2b", "gemma4-e4b", "gemma4-12b", "gemma4-26b-a4b", "gemma4-31b"}
    assert names >= sizes | {"nano", "qwen3.5-9b", "qwen3.6-35b-a3b", "qwen3.8-27b"}
    assert all(row["drafter"] for row in rows)


def test_a_registry_model_can_be_shown_before_it_is_pulled(program: Program) -> None:
    facts = json.loads(program("show", "gemma4-e2b:q8_0", "--json").stdout)
    assert not facts["installed"]
    assert facts["drafter"] == "ggml-org/gemma-4-E2B-it-GGUF/mtp-gemma-4-E2B-it-Q8_0.gguf"
    needs = [row["bytes"] for row in facts["memory"]]
    assert needs == sorted(needs)
    assert needs[0] > facts["bytes"]


def test_rm_deletes_a_model_but_not_a_shared_drafter(
    hub: Hub, program: Program, pair: Pair
) -> None:
    publish(hub, pair)
    program.configure("models.toml", OWN_ENTRIES)
    program("pull", "small:Q8_0")
    program("pull", "small:Q4_0")
    assert "more than once" in program("rm", "small", "--yes").stderr
    assert program("rm", "small:Q8_0").returncode == 130
    removed = program("rm", "small:Q8_0", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert {path.name for path in program.cache.rglob("*.gguf")} == {
        "tiny-Q4_0.gguf",
        "mtp-tiny.gguf",
    }
    program("rm", "small", "--yes")
    assert not list(program.cache.rglob("*.gguf"))
    assert not [p for p in program.cache.rglob("blobs/*") if p.stat().st_size > 1000]
    assert "is not on this machine" in program("rm", "small", "--yes").stderr


def test_the_default_is_the_configured_or_the_largest_installed_model(
    hub: Hub, program: Program, pair: Pair
) -> None:
    publish(hub, pair)
    program.configure("models.toml", OWN_ENTRIES)
    arguments = ("run", "hi", "--max-tokens", "2", "--json")
    assert json.loads(program(*arguments).stdout)["model"] == "nano"
    program("pull", "small:Q4_0")
    assert json.loads(program(*arguments).stdout)["model"] == "small:Q4_0"
    hub.publish("a/b", {"large.gguf": pair.target + bytes(100), "mtp.gguf": pair.drafter})
    program("pull", "a/b")
    assert json.loads(program(*arguments).stdout)["model"] == "a/b"
    program.configure("config.toml", 'model = "nano"\n')
    assert json.loads(program(*arguments).stdout)["model"] == "nano"


def test_damaged_configuration_is_named(program: Program) -> None:
    for name, text in (("models.toml", "[mine]\n"), ("models.toml", "not toml")):
        program.configure(name, text)
        listed = program("list", "--all")
        assert listed.returncode == 1
        assert "models.toml" in listed.stderr
