"""`localmtp run --server` with images and sound, as a process."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import localmtp
from tests.pairs import TINY, write_pair
from tests.projectors import write_unified_projector
from tests.remote.loopback import Script, ended, said, serving
from tests.remote.processes import localmtp as program
from tests.serve.servers import serving as serving_model
from tests.serve.test_media import sound

QUESTION = "What is this?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair with its projector, and files of several formats."""
    folder = tmp_path_factory.mktemp("media")
    write_pair(TINY["dense"], folder / "tiny.gguf", folder / "mtp-tiny.gguf")
    write_unified_projector(folder / "mmproj-tiny.gguf")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    image = Image.fromarray(pixels)
    for form in ("png", "webp", "bmp"):
        image.save(folder / f"a.{form}")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif)
    (folder / "a.wav").write_bytes(sound())
    return folder


def test_an_answer_is_that_of_the_model_on_this_machine(folder: Path) -> None:
    media = ("--image", str(folder / "a.webp"), "--audio", str(folder / "a.wav"))
    greedy = ("--temp", "0", "--max-tokens", "8", "--json")
    model = str(folder / "tiny.gguf")
    here = json.loads(program("run", model, QUESTION, *media, *greedy).stdout)
    with serving_model(model=model) as server:
        done = program("run", "--server", server.root, QUESTION, *media, *greedy)
    there = json.loads(done.stdout)
    assert there["text"] == here["text"]
    assert there["prompt_tokens"] == here["prompt_tokens"]
    assert there["stats"]["media"] == 2
    assert there["stats"]["media_tokens"] == here["stats"]["media_tokens"]


def test_a_server_that_reads_no_images_gets_none(folder: Path) -> None:
    with serving_model() as server:
        done = program("run", "--server", server.root, QUESTION, "--image", f"{folder}/a.png")
    assert done.returncode == 1
    assert "reads no images" in done.stderr
    assert done.stderr.count("\n") <= 2


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("a.png", "PNG", (90, 60)),
        ("a.webp", "PNG", (90, 60)),
        ("a.bmp", "PNG", (90, 60)),
        ("turned.jpg", "PNG", (60, 90)),
    ],
)
def test_other_servers_get_upright_images_that_all_of_them_read(
    folder: Path, name: str, kind: str, size: tuple[int, int]
) -> None:
    with serving(Script((said("A"), ended()))) as script:
        done = program("run", "--server", script.url, QUESTION, "--image", str(folder / name))
    assert done.stdout == "A\n", done.stderr
    (message,) = script.asked[0]["messages"]
    image, text = message["content"]
    assert text == {"type": "text", "text": QUESTION}
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert (sent.format, sent.size) == (kind, size)
    assert (data == base64.b64encode((folder / name).read_bytes()).decode()) is (name == "a.png")


def test_sound_is_sent_with_its_format(folder: Path) -> None:
    with serving(Script((said("A"), ended()))) as script:
        program("run", "--server", script.url, QUESTION, "--audio", str(folder / "a.wav"))
    sent = script.asked[0]["messages"][0]["content"][0]["input_audio"]
    assert sent["format"] == "wav"
    assert base64.b64decode(sent["data"]) == (folder / "a.wav").read_bytes()


def test_images_of_earlier_turns_are_sent_again(folder: Path) -> None:
    conversation: list[dict[str, Any]] = [
        {"role": "user", "content": "one", "media": [str(folder / "a.png")]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three", "media": [str(folder / "turned.jpg")]},
    ]
    with localmtp.load(folder / "tiny.gguf", threads=1) as here:
        expected = here.chat(conversation, temperature=0, max_tokens=8).text()
    with (
        serving_model(model=str(folder / "tiny.gguf")) as server,
        localmtp.connect(server.root) as there,
    ):
        reply = there.chat(conversation, temperature=0, max_tokens=8)
        assert reply.text() == expected
        assert reply.stats().media == 2
