"""`localmtp run` and `verify` with images and sound, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.programs import localmtp
from tests.heads import write_qwen35
from tests.media import samples
from tests.towers import write_towers

RUN = ("run", "nano", "What is it?", "--threads", "1", "--temp", "0", "--max-tokens", "8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A projector, an image with spaces in its name, a sound, and files that are neither."""
    folder = tmp_path_factory.mktemp("media")
    write_towers(folder / "mmproj.gguf", "e2b")
    (folder / "my photo.png").write_bytes(samples.png())
    (folder / "sound.wav").write_bytes(samples.sound(samples.tone()))
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(samples.png()[:60])
    (folder / "bomb.png").write_bytes(samples.hollow_png(40_000, 40_000))
    (folder / "link.png").symlink_to(folder / "my photo.png")
    return folder


def test_images_and_sound_are_reported(folder: Path) -> None:
    files = ("--image", str(folder / "my photo.png"), "--audio", str(folder / "sound.wav"))
    flags = ("--mmproj", str(folder / "mmproj.gguf"), "--json")
    done = localmtp(*RUN, *files, "--image", str(folder / "link.png"), *flags)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)["stats"]
    assert stats["media"] == 3
    # The link is the same image: it is encoded once.
    image = stats["media_tokens"] - stats["encoded_tokens"]
    assert stats["encoded_tokens"] == image + 25
    assert 0 < stats["encode_s"] < stats["prefill_s"]


def test_an_image_from_standard_input(folder: Path) -> None:
    flags = ("--mmproj", str(folder / "mmproj.gguf"), "--image", "-", "--image-tokens", "70")
    with (folder / "my photo.png").open("rb") as file:
        command = [sys.executable, "-m", "localmtp", *RUN, *flags]
        done = subprocess.run(command, stdin=file, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"media tokens, encoded in" in done.stderr


FAULTS = [
    ("--image", "text.png", "is no image and no sound"),
    ("--image", "empty.png", "is empty"),
    ("--image", "cut.png", "cannot decode cut.png"),
    ("--image", "bomb.png", "megapixels"),
    ("--image", "missing.png", "cannot read"),
    ("--image", "", "not a regular file"),
    ("--image", "sound.wav", "is no image file"),
    ("--audio", "my photo.png", "is no audio file"),
]


@pytest.mark.parametrize(("option", "name", "reason"), FAULTS)
def test_faults_are_one_line(folder: Path, option: str, name: str, reason: str) -> None:
    flags = ("--mmproj", str(folder / "mmproj.gguf"), option, str(folder / name))
    done = localmtp(*RUN, *flags)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert reason in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))


def test_a_projector_and_none_exclude_each_other(folder: Path) -> None:
    projector = ("--mmproj", str(folder / "mmproj.gguf"))
    for flags in [(*projector, "--no-media"), ("--no-media", *projector)]:
        done = localmtp(*RUN, *flags)
        assert done.returncode == 2
        assert "--no-media and --mmproj FILE exclude each other" in done.stderr
    assert localmtp(*RUN, "--no-media", "--mmproj", "none").returncode == 0
    done = localmtp(*RUN, "--no-media", "--image", str(folder / "my photo.png"))
    assert done.returncode == 1


def test_a_device_is_no_image(folder: Path) -> None:
    done = localmtp(*RUN, "--mmproj", str(folder / "mmproj.gguf"), "--image", os.devnull)
    assert done.returncode == 1
    assert "not a regular file" in done.stderr


def test_verify_compares_answers_about_an_image(folder: Path) -> None:
    flags = ("--mmproj", str(folder / "mmproj.gguf"), "--image", str(folder / "my photo.png"))
    amount = ("--prompts", "1", "--max-tokens", "16", "--n-draft", "3", "--threads", "1", "--json")
    report = json.loads(localmtp("verify", "nano", *flags, *amount).stdout)
    assert report["greedy"]["passed"]
    assert report["passes"]["passed"]
    assert report["seeded"]["passed"]


def test_qwen_answers_about_images_and_drafts(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    write_qwen35(model, media=True)
    write_towers(tmp_path / "mmproj-tiny.gguf", "qwen", width=64)
    image = ("--image", str(folder / "my photo.png"))
    flags = ("--n-draft", "3", "--temp", "0", "--max-tokens", "30", "--threads", "1", "--json")
    done = localmtp("run", str(model), "What is it?", *image, *image, *flags)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)["stats"]
    assert (stats["media"], stats["media_tokens"]) == (2, 2 * stats["encoded_tokens"])
    assert stats["context_used"] > stats["prompt_tokens"] > stats["media_tokens"]
    assert stats["accepted"]
    amount = ("--prompts", "1", "--max-tokens", "16", "--n-draft", "3", "--threads", "1", "--json")
    report = json.loads(localmtp("verify", str(model), *image, *amount).stdout)
    assert report["greedy"]["passed"] and report["passes"]["passed"] and report["seeded"]["passed"]
    shown = localmtp("show", str(model), "--json").stdout
    assert json.loads(shown)["media"] == ["image"]
