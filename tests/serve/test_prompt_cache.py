"""`serve --cache`: conversations survive a server that is killed."""

from pathlib import Path
from time import sleep
from typing import Any

import openai

from tests.serve.servers import serving

LONG = "Remember these words: " + " ".join(f"word{i}" for i in range(60)) + ". Count from 1 to 9."
KILLS = 3


def test_conversations_survive_kills(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    flags = ("--cache", str(cache), "--ctx", "1024", "--parallel", "2")
    messages: list[Any] = [{"role": "user", "content": LONG}]
    expected, restored = "", 0
    for kill in range(KILLS + 1):
        with serving(*flags) as server:
            with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
                answer = client.chat.completions.create(
                    model="nano", messages=messages, temperature=0, max_tokens=40
                )
                expected = expected or (answer.choices[0].message.content or "")
                assert answer.choices[0].message.content == expected
                assert answer.usage and answer.usage.prompt_tokens_details
                restored += (answer.usage.prompt_tokens_details.cached_tokens or 0) > 100
                other = f"{kill} and {LONG}"
                client.chat.completions.create(
                    model="nano",
                    messages=[{"role": "user", "content": other}],
                    max_tokens=5,
                )
            if kill == 0:
                while not list(cache.glob("*.prompt")):
                    sleep(0.01)
            server.process.kill()  # perhaps while it writes
    assert restored == KILLS
