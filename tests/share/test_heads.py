"""Qwen 3.5 with its MTP head: converted, shared, downloaded and run, in one file and in two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localmtp.bench.lab.convert.qwen_checkpoints import write_qwen
from tests.models.conftest import Program
from tests.share.test_share import front_matter

REPO = "someone/Qwen3.5-Tiny-MTP-GGUF"


@pytest.mark.parametrize(
    ("flags", "drafter"),
    [
        ([], "MTP head in the file"),
        (["--name", "Tiny-MTP"], "MTP head in the file"),
        (["--no-mtp", "--mtp"], "mtp-Qwen3.5-Tiny-Q8_0"),
    ],
    ids=["one file", "one file named like a drafter", "two files"],
)
def test_a_head_reaches_those_who_download_the_model(
    program: Program, tmp_path: Path, flags: list[str], drafter: str
) -> None:
    source = write_qwen(tmp_path / "Qwen3.5-Tiny", "9B")
    made = program("convert", str(source), "--quant", "Q8_0", "--out", "gguf", *flags)
    assert made.returncode == 0, made.stderr
    dry = program("share", "gguf", REPO, "--dry-run")
    front = front_matter(dry.stdout)
    assert front["base_model"] == ["Qwen/Qwen3.5-Tiny"]
    assert {"qwen3.5", "mtp", "speculative-decoding"} <= set(front["tags"])
    assert f"llama-server -hf {REPO}:Q8_0 --spec-type draft-mtp" in dry.stdout
    assert program("share", "gguf", REPO).returncode == 0
    options = ["--raw", "--temp", "0", "--max-tokens", "12", "--threads", "1", "--json"]
    done = program("run", f"{REPO}:Q8_0", "hello", "--n-draft", "3", *options)
    assert done.returncode == 0, done.stderr
    drafted = json.loads(done.stdout)
    assert drafted["drafter"] == drafter
    assert drafted["stats"]["drafted"] > 0
    plain = json.loads(program("run", f"{REPO}:Q8_0", "hello", "--n-draft", "0", *options).stdout)
    assert drafted["token_ids"] == plain["token_ids"]
