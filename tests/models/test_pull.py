"""`localmtp pull` from a hub on loopback, and running pulled models."""

from __future__ import annotations

import json

import pytest

from tests.hub import Hub
from tests.models.conftest import Pair, Program

REPO = "someone/gemma-4-tiny-GGUF"


def test_a_pulled_pair_runs_without_the_hub(hub: Hub, program: Program, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert "drafter mtp-tiny.gguf" in pulled.stdout
    hub.stop()
    answered = program("run", REPO, "hi", "--max-tokens", "4", "--n-draft", "2", "--json")
    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert answer["drafter"] == "mtp-tiny"
    assert answer["stats"]["drafting"] == "on"


def test_run_downloads_missing_files_unless_offline(hub: Hub, program: Program, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})
    refused = program("run", REPO, "hi", "--offline")
    assert refused.returncode == 1
    assert f"{REPO} is not on this machine" in refused.stderr
    assert hub.requests == []
    answered = program("run", REPO, "hi", "--max-tokens", "2")
    assert answered.returncode == 0, answered.stderr
    assert hub.downloads()


def test_cached_files_are_not_downloaded_again(hub: Hub, program: Program, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})
    program("pull", REPO)
    sent = hub.sent
    assert program("pull", REPO).returncode == 0
    # Only the headers are read again.
    assert hub.sent - sent < len(pair.target)


@pytest.mark.parametrize(
    "name",
    ["mtp-tiny.gguf", "MTP/tiny-Q8_0.gguf", "tiny-Q4_0-MTP.gguf", "tiny-it-Assistant-F16.gguf"],
)
def test_drafters_are_found_under_common_names(
    hub: Hub, program: Program, pair: Pair, name: str
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, name: pair.drafter})
    pulled = program("pull", REPO)
    assert f"drafter {name.rpartition('/')[2]}" in pulled.stdout, pulled.stderr


def test_a_qat_target_gets_the_qat_drafter(
    hub: Hub, program: Program, pair: Pair, qat_pair: Pair
) -> None:
    files = {"tiny-Q4_0.gguf": qat_pair.target, "mtp-a.gguf": pair.drafter}
    hub.publish(REPO, files | {"mtp-b.gguf": qat_pair.drafter})
    pulled = program("pull", REPO)
    assert "drafter mtp-b.gguf" in pulled.stdout
    assert "warning" not in pulled.stderr


def test_a_mixed_pair_gives_a_warning(
    hub: Hub, program: Program, pair: Pair, qat_pair: Pair
) -> None:
    hub.publish(REPO, {"tiny-Q4_0.gguf": qat_pair.target, "mtp-a.gguf": pair.drafter})
    pulled = program("pull", REPO)
    assert pulled.returncode == 0
    assert "warning" in pulled.stderr
    assert "QAT" in pulled.stderr


def test_a_drafter_for_another_target_is_not_used(
    hub: Hub, program: Program, pair: Pair, other_drafter: bytes
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": other_drafter})
    pulled = program("pull", REPO)
    assert pulled.returncode == 0
    assert "made for a target of embedding length 96" in pulled.stderr


def test_a_fork_drafter_is_refused_with_the_reason(
    hub: Hub, program: Program, pair: Pair, fork_drafter: bytes
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": fork_drafter})
    pulled = program("pull", REPO)
    assert "gemma4_assistant" in pulled.stderr
    assert "mainline llama.cpp needs `gemma4-assistant`" in pulled.stderr


def test_a_drafter_is_refused_as_target_before_it_is_downloaded(
    hub: Hub, program: Program, large_pair: Pair
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": large_pair.drafter})
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert "is a drafter, not a target" in pulled.stderr
    assert hub.sent < len(large_pair.drafter) / 2


def test_a_quantization_can_be_chosen(hub: Hub, program: Program, pair: Pair) -> None:
    files = {"tiny-Q8_0.gguf": pair.target, "tiny-Q4_K_M.gguf": pair.target + b"\0"}
    hub.publish(REPO, files)
    assert "tiny-Q8_0.gguf" in program("pull", f"{REPO}:q8_0").stdout
    assert "tiny-Q4_K_M.gguf" in program("pull", REPO).stdout
    missing = program("pull", f"{REPO}:Q6_K")
    assert missing.returncode == 1
    assert "no quantization Q6_K" in missing.stderr
    assert "Q4_K_M, Q8_0" in missing.stderr


def test_user_entries_pair_files_of_different_repositories(
    hub: Hub, program: Program, pair: Pair
) -> None:
    hub.publish("a/targets", {"tiny-Q8_0.gguf": pair.target})
    hub.publish("b/drafters", {"assistant.gguf": pair.drafter})
    program.configure(
        "models.toml",
        '[mine.quants.Q8_0]\ntarget = "a/targets/tiny-Q8_0.gguf"\n'
        'drafter = "b/drafters/assistant.gguf"\n',
    )
    assert "drafter assistant.gguf" in program("pull", "mine").stdout
    hub.stop()
    answer = program("run", "mine:q8_0", "hi", "--max-tokens", "2", "--json")
    assert json.loads(answer.stdout)["drafter"] == "assistant"


def test_all_parts_of_a_target_are_pulled(hub: Hub, program: Program, pair: Pair) -> None:
    first, second = pair.target, b"the rest"
    names = ("tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf")
    hub.publish(REPO, dict(zip(names, (first, second), strict=True)))
    assert program("pull", REPO).returncode == 0
    assert {path.name for path in program.cache.rglob("*.gguf")} == set(names)


def test_names_that_lead_out_of_the_cache_are_ignored(
    hub: Hub, program: Program, pair: Pair
) -> None:
    hub.publish(REPO, {"../../../evil.gguf": pair.target, "/evil.gguf": pair.target})
    pulled = program("pull", REPO)
    assert pulled.returncode == 1
    assert not list(program.home.parent.rglob("evil*"))


def test_some_repositories_need_a_token(hub: Hub, program: Program, pair: Pair) -> None:
    repo = hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target})
    repo.needs_token = "secret"
    assert "or it is private" in program("pull", REPO).stderr
    repo.gated = True
    gated = program("pull", REPO)
    assert gated.returncode == 1
    assert "is gated" in gated.stderr
    assert f"{hub.endpoint}/{REPO}" in gated.stderr
    assert program("pull", REPO, HF_TOKEN="secret").returncode == 0


def test_errors_are_one_line(hub: Hub, program: Program) -> None:
    hub.publish("google/gemma-4-E2B-it", {"model.safetensors": b"weights"})
    for name, words in (
        ("nobody/nothing", "there is no nobody/nothing on the hub"),
        ("google/gemma-4-E2B-it", "holds no GGUF file"),
        ("gema4-e4b", "did you mean `gemma4-e4b`"),
        ("nano", "nothing to download"),
        ("a/b/c", "unknown model"),
        ("../etc", "is not a repository name"),
    ):
        pulled = program("pull", name)
        assert pulled.returncode == 1, name
        assert words in pulled.stderr
        assert pulled.stderr.count("\n") <= 2, pulled.stderr
