"""`serve --cache`: conversations survive a server that is killed."""

from pathlib import Path
from time import sleep
from typing import Any

import openai
import pytest

from tests.heads import write_qwen35
from tests.serve.servers import serving

LONG = "Remember these words: " + " ".join(f"word{i}" for i in range(60)) + ". Count from 1 to 9."


@pytest.mark.parametrize(("name", "kills"), [("nano", 3), ("tiny.gguf", 2)])
def test_conversations_survive_kills(tmp_path: Path, name: str, kills: int) -> None:
    """Those of a model with a recurrent state and an MTP head too."""
    cache, model = tmp_path / "cache", "nano"
    if name != "nano":
        model = str(tmp_path / name)
        write_qwen35(Path(model))
    flags = ("--cache", str(cache), "--ctx", "1024", "--parallel", "2")
    messages: list[Any] = [{"role": "user", "content": LONG}]
    expected, restored = "", 0
    for kill in range(kills + 1):
        with serving(*flags, model=model) as server:
            with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
                answer = client.chat.completions.create(
                    model=name, messages=messages, temperature=0, max_tokens=40
                )
                expected = expected or (answer.choices[0].message.content or "")
                assert answer.choices[0].message.content == expected
                assert answer.usage and answer.usage.prompt_tokens_details
                restored += (answer.usage.prompt_tokens_details.cached_tokens or 0) > 100
                other = f"{kill} and {LONG}"
                client.chat.completions.create(
                    model=name,
                    messages=[{"role": "user", "content": other}],
                    max_tokens=5,
                )
            if kill == 0:
                while not list(cache.glob("*.prompt")):
                    sleep(0.01)
            server.process.kill()  # perhaps while it writes
    assert restored == kills
