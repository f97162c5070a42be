"""Images on Qwen 3.5 in requests: answers that share passes, and llama.cpp's own server."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from localmtp.convert import Options, convert
from tests.convert.qwen_images_torch import SIZES, picture, write_checkpoint
from tests.heads import MEDIA_TEMPLATE, write_qwen35
from tests.media import samples
from tests.remote.processes import LLAMA_SERVER, free_port, listening
from tests.serve.servers import serving
from tests.serve.test_media import image, image_part
from tests.towers import write_towers


def test_answers_about_images_share_passes(tmp_path: Path) -> None:
    write_qwen35(tmp_path / "qwen.gguf", media=True)
    write_towers(tmp_path / "mmproj-qwen.gguf", "qwen", width=64)
    pictures = [image_part(image(seed, size=(320, 224))) for seed in range(3)]
    ask: Any = [
        {"role": "user", "content": [p, {"type": "text", "text": "what"}]} for p in pictures
    ]

    def answer(message: Any, url: str) -> Any:
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            found = client.chat.completions.create(
                model="qwen.gguf", messages=[message], temperature=0, max_tokens=24
            )
        return found.choices[0].message.content, found.usage and found.usage.prompt_tokens

    flags = ("--parallel", "3", "--n-draft", "3")
    with serving(*flags, model=str(tmp_path / "qwen.gguf")) as server:
        with ThreadPoolExecutor(3) as pool:
            together = [*pool.map(answer, ask, [server.url] * 3)]
        assert together == [answer(message, server.url) for message in ask]
    with serving("--drafter", "none", model=str(tmp_path / "qwen.gguf")) as server:
        assert together == [answer(message, server.url) for message in ask]


def conversations() -> list[Any]:
    """Conversations about one image or two, of different shapes."""
    shapes = [Image.fromarray(picture(i)) for i in range(len(SIZES))]
    files = [samples.encoded(each, "PNG") for each in shapes]
    files += [samples.png(500, 333), samples.png(90, 700)]
    pictures = [image_part(data) for data in files]
    text = {"type": "text", "text": "what is in this picture"}
    found: list[Any] = [[{"role": "user", "content": [each, text]}] for each in pictures]
    found.append([{"role": "user", "content": [text, pictures[0], text, pictures[3]]}])
    later = [{"role": "assistant", "content": "yes"}, {"role": "user", "content": [pictures[2]]}]
    return [*found, [*found[1], *later]]


def answers(url: str, model: str) -> list[tuple[str, int]]:
    """Texts without markers and invalid bytes, which both report differently, and prompt tokens."""
    found = []
    body = {"model": model, "temperature": 0, "max_tokens": 40}
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for messages in conversations():
            done = client.post("/v1/chat/completions", json={**body, "messages": messages}).json()
            message = done["choices"][0]["message"]
            text = (message.get("reasoning_content") or "") + (message.get("content") or "")
            text = re.sub("\ufffd|</?(?:think|tool_call)>", "", text)
            found.append((text, done["usage"]["prompt_tokens"]))
    return found


@pytest.mark.skipif(not LLAMA_SERVER, reason="LOCALMTP_LLAMA_CPP_BIN names no llama.cpp")
def test_answers_about_images_are_those_of_llama_server(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "9B", "9B")
    options = Options(quants=["F32"], mmproj=["F32"], threads=1)
    files = {f.projector: f.path for f in convert(source, tmp_path / "out", options=options)}
    (tmp_path / "template.jinja").write_text(MEDIA_TEMPLATE)
    template, port = str(tmp_path / "template.jinja"), free_port()
    command = [LLAMA_SERVER, "-m", str(files[False]), "--mmproj", str(files[True]), "-c", "2048"]
    command += [
        "-t",
        "1",
        "--jinja",
        "--chat-template-file",
        template,
        "--reasoning-format",
        "none",
    ]
    command += ["--image-min-tokens", "64", "--image-max-tokens", "280", "--port", str(port)]
    with listening(command, port, tmp_path / "log") as url:
        expected = answers(url, "any")
    flags = ("--chat-template", template, "--image-tokens", "280", "--ctx", "2048", "--n-draft")
    for n_draft in ("0", "3"):
        with serving(*flags, n_draft, model=str(files[False])) as server:
            assert answers(server.root, files[False].name) == expected
