"""Images and sound in requests, through the official clients of OpenAI and Anthropic."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import numpy as np
import ollama
import openai
import pytest
from PIL import Image

from tests.fuzz.budget import examples, one_input, seeds
from tests.fuzz.json_mutator import changed
from tests.media.samples import sound as audio_file
from tests.media.samples import tone
from tests.pairs import TINY, write_pair
from tests.projectors import write_unified_projector
from tests.serve.servers import Server, serving

MODEL = "tiny-F32.gguf"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}


def image(seed: int = 0, form: str = "PNG", size: tuple[int, int] = (120, 100)) -> bytes:
    """An image of noise."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def sound(seconds: float = 1.0) -> bytes:
    """A tone as WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(
            (np.sin(np.arange(int(16000 * seconds)) / 9) * 9000).astype("<i2").tobytes()
        )
    return file.getvalue()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def image_part(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(data)}"}}


def sound_part(data: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": encoded(data), "format": "wav"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair with its projector, an image and a sound."""
    folder = tmp_path_factory.mktemp("media")
    write_pair(TINY["dense"], folder / MODEL, folder / "mtp-tiny.gguf")
    write_unified_projector(folder / "mmproj-tiny-F32.gguf")
    (folder / "image.png").write_bytes(image())
    (folder / "sound.wav").write_bytes(sound())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(model=str(folder / MODEL)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        yield client


def asked(client: openai.OpenAI, *content: Any) -> Any:
    messages: Any = [{"role": "user", "content": [*content]}]
    return client.chat.completions.create(model=MODEL, messages=messages, **GREEDY)


def test_the_answer_is_that_of_run(client: openai.OpenAI, folder: Path) -> None:
    answer = asked(
        client, image_part(image()), sound_part(sound()), {"type": "text", "text": "what"}
    )
    flags = "--image image.png --audio sound.wav --max-tokens 8 --temp 0 --json --threads 1"
    command = [sys.executable, "-m", "localmtp", "run", MODEL, "what", *flags.split()]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    printed = json.loads(ran.stdout)
    assert answer.choices[0].message.content == printed["text"]
    assert answer.usage.prompt_tokens == printed["prompt_tokens"]


def test_parts_keep_their_order_and_encoded_images_are_reused(client: openai.OpenAI) -> None:
    text, picture = {"type": "text", "text": "word1 word2 word3"}, image_part(image(1))
    before = asked(client, text, picture)
    after = asked(client, picture, text)
    assert before.choices[0].message.content != after.choices[0].message.content
    stats = asked(client, text, picture).choices[0].stats
    assert stats["media"] == 1
    assert stats["encoded_tokens"] == 0


def test_responses_and_messages_get_the_same_prompt(server: Server, client: openai.OpenAI) -> None:
    picture = image(2)
    chat = asked(client, image_part(picture), {"type": "text", "text": "what"})
    items: Any = [
        {"type": "input_image", "image_url": image_part(picture)["image_url"]["url"]},
        {"type": "input_text", "text": "what"},
    ]
    response = client.responses.create(
        model=MODEL, input=[{"role": "user", "content": items}], temperature=0, max_output_tokens=8
    )
    assert response.output_text == chat.choices[0].message.content
    again = client.responses.create(
        model=MODEL,
        input="and now",
        previous_response_id=response.id,
        temperature=0,
        max_output_tokens=4,
    )
    assert again.usage
    assert again.usage.input_tokens > chat.usage.prompt_tokens
    with anthropic.Anthropic(base_url=server.root, api_key="any", max_retries=0) as claude:
        source = {"type": "base64", "media_type": "image/png", "data": encoded(picture)}
        messages: Any = [
            {
                "role": "user",
                "content": [{"type": "image", "source": source}, {"type": "text", "text": "what"}],
            }
        ]
        message = claude.messages.create(
            model=MODEL, messages=messages, max_tokens=8, extra_body={"temperature": 0}
        )
        counted = claude.messages.count_tokens(model=MODEL, messages=messages)
    (block,) = message.content
    assert block.type == "text"
    assert block.text == chat.choices[0].message.content
    assert counted.input_tokens == chat.usage.prompt_tokens


def test_images_in_results_of_tools_follow_as_a_message_of_the_user(
    client: openai.OpenAI,
) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages: Any = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": [image_part(image(3))]},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, **GREEDY)
    assert answer.choices[0].stats["media"] == 1


def test_a_streamed_answer_with_several_choices_encodes_an_image_once(
    client: openai.OpenAI,
) -> None:
    messages: Any = [{"role": "user", "content": [image_part(image(4))]}]
    stream = client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, n=2, max_tokens=4
    )
    assert {choice.index for chunk in stream for choice in chunk.choices} == {0, 1}


def test_penalties_and_grammars_apply_after_images(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [sound_part(sound()), image_part(image(5))]}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=messages,
        max_tokens=30,
        temperature=0,
        frequency_penalty=1.0,
        extra_body={"repeat_penalty": 1.3},
        response_format={"type": "json_object"},
        logprobs=True,
    )
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")


def test_what_the_model_reads_is_listed(server: Server) -> None:
    with server.http() as http:
        (card,) = http.get("/v1/models").json()["data"]
        assert card["input_modalities"] == ["text", "image", "audio"]
        assert http.get("/props").json()["modalities"] == {"vision": True, "audio": True}
    messages: Any = [{"role": "user", "content": [image_part(image())]}]
    with serving() as nano, nano.http() as http:
        assert http.get("/props").json()["modalities"] == {"vision": False, "audio": False}
        refused = http.post("/v1/chat/completions", json={"messages": messages})
    error = refused.json()["error"]
    assert "the model reads no images: nano reads text only" in error["message"]


def test_metrics_count_media(server: Server, client: openai.OpenAI) -> None:
    before = server.metrics()
    asked(client, image_part(image(6)), sound_part(sound(2.0)))
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("localmtp_media_total{image}") == 1
    assert grown("localmtp_media_total{audio}") == 1
    assert grown("localmtp_media_tokens_total{encoded}") > 100
    assert grown("localmtp_seconds_total{encode}") > 0


def bomb() -> bytes:
    """A PNG of 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (image_part(bomb()), "image 1 has 10,000 megapixels"),
        (image_part(image()[:2000]), "image 1: damaged or truncated PNG"),
        (image_part(SVG), "image 1 is no image and no sound that can be read"),
        (image_part(b""), "image 1 is empty"),
        (image_part(sound()), "image 1 is a sound"),
        (sound_part(image()), "sound 1 is an image"),
        (sound_part(sound()[:30]), "damaged"),
        (sound_part(sound(200.0)), "does not fit a context of 1024 tokens"),
        ({"type": "image_url", "image_url": "data:image/png;base64,?!"}, "not valid base64"),
        ({"type": "image_url", "image_url": "data:image/png,abc"}, "data:TYPE;base64,DATA"),
        ({"type": "image_url", "image_url": "file:///etc/passwd"}, "begins with `data:`"),
        ({"type": "image_url", "image_url": "http://127.0.0.1/a.png"}, "--allow-remote-media"),
        ({"type": "image_url", "image_url": {"url": ""}}, "image_url has no content"),
        ({"type": "image_url"}, "image_url has no content"),
        ({"type": "input_audio", "input_audio": {"data": ""}}, "input_audio has no content"),
        ({"type": "video_url", "video_url": {"url": "data:,"}}, "'video_url' is not supported"),
    ],
)
def test_media_that_cannot_be_read_are_one_error(
    client: openai.OpenAI, part: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        asked(client, part, {"type": "text", "text": "what"})
    assert said in refused.value.message
    assert refused.value.param == "messages"
    assert asked(client, {"type": "text", "text": "hi"}).choices


def test_too_many_or_too_large_images_are_refused(client: openai.OpenAI) -> None:
    small = image_part(image(size=(8, 8)))
    with pytest.raises(openai.BadRequestError, match="more than 64 images and sounds"):
        asked(client, *[small] * 65)
    large = image_part(image(form="PNG", size=(1, 1)))
    flat = io.BytesIO()
    Image.new("1", (7000, 7000)).save(flat, "PNG")
    with pytest.raises(openai.BadRequestError, match="megapixels, more than 256"):
        asked(client, *[image_part(flat.getvalue())] * 6, large)
    with pytest.raises(openai.BadRequestError, match="images and sound, and the context 1024"):
        asked(client, *[image_part(image(n)) for n in range(15)])


def test_a_body_with_a_picture_of_20_megabytes_is_accepted(server: Server) -> None:
    picture = image() + bytes(20 << 20)
    body = {"messages": [{"role": "user", "content": [image_part(picture)]}], "max_tokens": 2}
    with server.http() as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        refused = http.post("/v1/chat/completions", content=b" " * (80 << 20))
    assert refused.status_code == 413


def test_large_bodies_together_are_limited_and_small_ones_pass(server: Server) -> None:
    """Bodies that were announced and do not arrive take the memory of others, but not of text."""
    address = (server.root.partition("//")[2].partition(":")[0], int(server.root.rsplit(":", 1)[1]))
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {60 << 20}\r\n\r\n"
    )
    body = {"messages": [{"role": "user", "content": [image_part(image() + bytes(20 << 20))]}]}
    small = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    with ExitStack() as stack, server.http() as http:
        for _ in range(2):
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(head.encode() + b"{")
        refused = http.post("/v1/chat/completions", json=body)
        while refused.status_code != 503:  # until the server has read both heads
            refused = http.post("/v1/chat/completions", json=body)
        assert "too many large requests" in refused.json()["error"]["message"]
        assert refused.headers["Retry-After"] == "1"
        assert http.post("/v1/chat/completions", json=small).status_code == 200
    with server.http() as http:
        while http.post("/v1/chat/completions", json=body | {"max_tokens": 1}).status_code == 503:
            pass


def test_errors_name_the_field_of_their_api(server: Server) -> None:
    with server.http() as http:

        def message(path: str, body: dict[str, Any]) -> httpx.Response:
            return http.post(path, json=body)

        item = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
        failed = message("/v1/responses", {"input": [{"role": "user", "content": [item]}]}).json()
        assert failed["error"]["param"] == "input"
        assert failed["error"]["code"] == "invalid_media"
        block = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
        body = {"messages": [{"role": "user", "content": [block]}], "max_tokens": 1}
        failed = message("/v1/messages", body).json()
        assert failed["error"]["type"] == "invalid_request_error"
        assert "image 1" in failed["error"]["message"]
        block["source"] = {"type": "file", "file_id": "a"}
        failed = message("/v1/messages", body).json()
        assert "a source of type base64 or url, not 'file'" in failed["error"]["message"]


def test_damaged_files_and_requests_get_a_response(server: Server) -> None:
    files = [image(form=form, size=(40, 30)) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    files += [audio_file(tone(0.2), 16_000, form) for form in ("WAV", "FLAC", "OGG", "MP3")]
    with server.http() as http:
        for seed in seeds(examples(60)):
            with one_input(seed) as rng:
                data = bytearray(rng.choice(files))
                for _ in range(rng.choice((1, 3, 20))):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                content = bytes(data[: rng.choice((None, rng.randrange(len(data)))) or len(data)])
                part = rng.choice((image_part, sound_part))(content)
                body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
                if rng.random() < 0.5:
                    body = changed(body, rng)
                raw = json.dumps(body).encode()
                headers = {"Content-Type": "application/json"}
                answer = http.post("/v1/chat/completions", content=raw, headers=headers)
                assert answer.status_code in (200, 400), answer.text


def test_without_the_projector_the_reason_is_named(folder: Path) -> None:
    with serving("--no-media", model=str(folder / MODEL)) as running, running.http() as http:
        body = {"messages": [{"role": "user", "content": [image_part(image())]}]}
        refused = http.post("/v1/chat/completions", json=body)
    assert refused.json()["error"]["message"] == "the model reads no images: --no-media"


def test_ollamas_clients_send_images(server: Server, client: openai.OpenAI) -> None:
    picture = image(7)
    options = {"temperature": 0, "num_predict": 8}
    chat = asked(client, image_part(picture), {"type": "text", "text": "what"})
    nano = ollama.Client(host=server.root, trust_env=False)
    message = {"role": "user", "content": "what", "images": [picture]}
    answer = nano.chat(MODEL, [message], options=options)
    assert answer.message.content == chat.choices[0].message.content
    assert nano.generate(MODEL, "what", images=[picture], options=options).response
    assert "vision" in (nano.show(MODEL).capabilities or [])
    with pytest.raises(ollama.ResponseError, match="images are not supported with raw"):
        nano.generate(MODEL, "what", raw=True, images=[picture])
