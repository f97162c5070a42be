"""A model with an MTP head through the whole program: run, verify, serve, show."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_run import error_of, localmtp
from tests.head_architectures import write_model
from tests.heads import Qwen35, write_qwen35
from tests.serve.servers import serving

QUESTION = "what is in there?"
GREEDY, SEEDED = ("--temp", "0"), ("--temp", "0.8", "--seed", "3")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("heads") / "tiny.gguf"
    write_qwen35(path)
    return str(path)


def run(model: str, *flags: str) -> dict[str, Any]:
    done = localmtp(
        "run", model, QUESTION, "--threads", "1", "--json", "--max-tokens", "40", *flags
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_run_gives_the_same_text_at_every_draft_length(model: str) -> None:
    plain = run(model, *GREEDY, "--n-draft", "0")
    assert plain["stats"]["drafting"] == "off: --n-draft 0"
    for length in ("1", "3", "auto"):
        report = run(model, *GREEDY, "--n-draft", length)
        assert report["token_ids"] == plain["token_ids"]
        assert report["drafter"] == "MTP head in the file"
        assert length == "auto" or report["stats"]["drafted"] > 0


def test_run_gives_the_same_sampled_text(tmp_path: Path) -> None:
    path = tmp_path / "experts.gguf"
    write_qwen35(path, Qwen35(moe=True))
    plain = run(str(path), *SEEDED, "--n-draft", "0")
    report = run(str(path), *SEEDED, "--n-draft", "3")
    assert report["token_ids"] == plain["token_ids"]
    assert report["stats"]["drafted"] > 0


def test_several_heads_draft_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "chained.gguf"
    write_model(path, "step35", heads=2)
    plain, report = (run(str(path), *GREEDY, "--n-draft", n) for n in ("0", "4"))
    assert report["token_ids"] == plain["token_ids"]
    assert report["drafter"] == "2 MTP heads in the file"
    assert report["stats"]["drafted"] > 0 and report["stats"]["tokens_per_pass"] <= 3
    flags = ("--threads", "1", "--max-tokens", "1", "--device-sampling", "on")
    done = localmtp("run", str(path), QUESTION, *flags)
    assert done.returncode == 0
    assert b"--device-sampling has no effect: drafts of several MTP heads" in done.stderr
    shown = localmtp("show", str(path)).stdout.decode()
    assert "2 in the target's file, one for each drafted token" in shown


def test_verify_passes(model: str) -> None:
    limits = ("--threads", "1", "--prompts", "1", "--max-tokens", "40")
    done = localmtp("verify", model, *limits, "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["passed"] is True and report["drafter"] == "MTP head in the file"
    assert report["passes"]["rejections"] > 20


def test_serve_drafts_for_several_requests_at_once(model: str) -> None:
    expected = run(model, *GREEDY, "--n-draft", "0")["text"]
    with serving("--parallel", "3", model=model) as server, server.http() as client:

        def ask(n_draft: int) -> str:
            body = {
                "messages": [{"role": "user", "content": QUESTION}],
                "temperature": 0, "max_tokens": 40, "n_draft": n_draft,
            }  # fmt: skip
            answer = client.post("/v1/chat/completions", json=body).json()
            return str(answer["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(ask, (0, 1, 3, 4))) == {expected}


def test_show_names_the_head(model: str) -> None:
    details = json.loads(localmtp("show", model, "--json").stdout)
    assert details["why_drafter"] == "MTP head in the file"
    assert details["why_no_drafter"] == ""


def test_a_head_alone_is_refused_in_one_line(tmp_path: Path) -> None:
    head = tmp_path / "mtp-tiny.gguf"
    write_qwen35(head, trunk=False)
    error = error_of(localmtp("run", str(head), QUESTION))
    assert "holds an MTP head without its target" in error and "--drafter" in error
