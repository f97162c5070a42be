"""`localmtp convert USER/REPO`: checkpoints on a hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localmtp.bench.lab.convert.gguf_contents import metadata, tensors
from tests.convert.checkpoints import write_checkpoint
from tests.hub import Hub
from tests.models.conftest import Program

REPO = "someone/tiny-it"
PICKLES = {"pytorch_model.bin": b"cos\nsystem", "training_args.pt": b"cos\nsystem"}


def publish(hub: Hub, folder: Path) -> None:
    """Publish a pair, with files that must not be downloaded."""
    for repo, shape in ((REPO, "E2B"), (f"{REPO}-assistant", "E2B-assistant")):
        directory = write_checkpoint(folder / repo, shape, shards=2)
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        other_layout = {"original/consolidated.safetensors": b"another layout"}
        hub.publish(repo, files | PICKLES | other_layout)


def test_a_pair_is_downloaded_and_converted(hub: Hub, program: Program, tmp_path: Path) -> None:
    publish(hub, tmp_path)
    flags = ["--quant", "Q8_0", "--out", "gguf", "--threads", "1"]
    done = program("convert", REPO, f"{REPO}-assistant", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    folder = program.home / "gguf"
    assert sorted(path.name for path in folder.iterdir()) == [
        "mtp-tiny-it-Q8_0.gguf",
        "tiny-it-Q8_0.gguf",
    ]
    found = metadata(folder / "mtp-tiny-it-Q8_0.gguf")
    page = f"https://huggingface.co/{REPO}"
    assert found["general.source.repo_url"][1] == f"{page}-assistant"
    assert found["localmtp.target.repo_url"][1] == page
    names = {request.path.rpartition("/")[2] for request in hub.downloads()}
    assert not names & {*PICKLES, "consolidated.safetensors"}
    assert {"config.json", "chat_template.jinja", "model-00002-of-00002.safetensors"} <= names
    program("convert", str(tmp_path / REPO), "--quant", "Q8_0", "--out", "local")
    assert tensors(folder / "tiny-it-Q8_0.gguf") == tensors(
        program.home / "local" / "tiny-it-Q8_0.gguf"
    )


def test_a_downloaded_repository_is_converted_offline(
    hub: Hub, program: Program, tmp_path: Path
) -> None:
    publish(hub, tmp_path)
    drafter = f"{REPO}-assistant"
    flags = ["--quant", "F16", "--threads", "1", "--force"]
    refused = program("convert", drafter, *flags, "--out", "gguf", "--offline")
    assert f"{drafter} is not cached on this machine" in refused.stderr
    assert program("convert", drafter, *flags, "--out", "gguf").returncode == 0
    hub.stop()
    assert program("convert", drafter, *flags, "--out", "gguf", "--offline").returncode == 0


def test_gated_and_missing_repositories_are_refused(
    hub: Hub, program: Program, tmp_path: Path
) -> None:
    publish(hub, tmp_path)
    hub.repositories[REPO] = replace(hub.repositories[REPO], gated=True, needs_token="hf_reader")
    refused = program("convert", REPO, "--out", "gguf")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[0] == f"error: {REPO} requires you to accept its licence"
    refused = program("convert", "someone/none", "--out", "gguf")
    assert "no directory or repository is called someone/none" in refused.stderr
    assert not (program.home / "gguf").exists()


def test_a_repository_of_pickles_is_refused(hub: Hub, program: Program, tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "tiny", "E2B")
    hub.publish(REPO, {"config.json": (directory / "config.json").read_bytes(), **PICKLES})
    refused = program("convert", REPO, "--out", "gguf")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"error: {REPO} has no model*.safetensors",
        "hint: pickled weights (.bin) are not downloaded: they can run code when loaded",
    ]


@pytest.mark.parametrize("damage", [404, 500])
def test_a_failing_hub_is_reported_in_one_line(
    hub: Hub, program: Program, tmp_path: Path, damage: int
) -> None:
    publish(hub, tmp_path)
    hub.faults.statuses = [damage] * 50
    refused = program("convert", REPO, "--out", "gguf", HF_HUB_DOWNLOAD_TIMEOUT="2")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and REPO in refused.stderr
    assert len(refused.stderr.splitlines()) <= 2
