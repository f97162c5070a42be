"""Images on Qwen 3.5 in requests: several answers in one pass, with and without drafts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from tests.heads import write_qwen35
from tests.serve.servers import serving
from tests.serve.test_media import image, image_part
from tests.towers import write_towers


def test_qwen_answers_about_images_side_by_side(tmp_path: Path) -> None:
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
