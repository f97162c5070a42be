"""Anthropic's Messages API, through Anthropic's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.serve.servers import Server, serving
from tests.serve.test_tools import CLOSE, OPEN, speaking

WHO: Any = [{"role": "user", "content": "Who are you?"}]
GREEDY = {"temperature": 0}
"""The client has no such parameter any more; other clients send it."""
TOOL: Any = {
    "name": "weather",
    "description": "Reports the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    "cache_control": {"type": "ephemeral"},
}


@pytest.fixture
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with connected(server) as client:
        yield client


def connected(server: Server, key: str = "any") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.root, api_key=key, max_retries=0)


def test_text(claude: anthropic.Anthropic) -> None:
    options: Any = {"model": "nano", "messages": WHO, "extra_body": GREEDY}
    message = claude.messages.create(max_tokens=100, **options)
    (block,) = message.content
    assert block.type == "text"
    assert block.text.startswith("I am **nano**")
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 5
    cut = claude.messages.create(max_tokens=3, **options)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)
    stopped = claude.messages.create(max_tokens=50, stop_sequences=["never", "nano"], **options)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "nano")


def test_stream_with_thinking_equals_whole_response(claude: anthropic.Anthropic) -> None:
    options: Any = {"model": "nano", "messages": WHO, "extra_body": GREEDY, "max_tokens": 200}
    options |= {"thinking": {"type": "enabled", "budget_tokens": 1024}, "system": "Be brief."}
    whole = claude.messages.create(**options)
    with claude.messages.stream(**options) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert said(streamed) == said(whole)
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def said(message: Any) -> list[str]:
    return [getattr(block, block.type) for block in message.content]


def test_count_tokens(claude: anthropic.Anthropic) -> None:
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    counted = claude.messages.count_tokens(model="nano", messages=WHO, system=system)
    message = claude.messages.create(model="nano", messages=WHO, system=system, max_tokens=1)
    used = message.usage
    assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_tool_use_and_its_result(tmp_path: Path) -> None:
    thought = ["<|channel>", "thought\nI need it.\n", "<channel|>"]
    call = 'call:weather{city:<|"|>Łódź<|"|>}'
    script = [*thought, "Let me look. ", OPEN, call, CLOSE]
    with speaking(tmp_path, script) as (server, _), connected(server) as claude:
        options: Any = {"model": "parrot.gguf", "tools": [TOOL], "max_tokens": 50}
        options |= {"extra_body": GREEDY}
        whole = claude.messages.create(messages=WHO, **options)
        with claude.messages.stream(messages=WHO, **options) as stream:
            streamed = stream.get_final_message()
        for message in (whole, streamed):
            assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
            used: Any = message.content[2]
            assert (used.name, used.input) == ("weather", {"city": "Łódź"})
            assert message.stop_reason == "tool_use"
        result: Any = {"type": "tool_result", "tool_use_id": used.id, "content": "Sunny."}
        text = {"type": "text", "text": "And?"}
        history: Any = [
            *WHO,
            {"role": "assistant", "content": streamed.content},
            {"role": "user", "content": [result, text]},
        ]
        again = claude.messages.create(messages=history, **options)
        assert again.stop_reason == "tool_use"


def test_errors_have_anthropics_format(claude: anthropic.Anthropic) -> None:
    image: Any = [{"role": "user", "content": [{"type": "image", "source": {}}]}]
    with pytest.raises(anthropic.BadRequestError, match="an image needs a source of type base64"):
        claude.messages.create(model="nano", messages=image, max_tokens=5)
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="claude-9", messages=WHO, max_tokens=5)
    assert caught.value.body == {
        "type": "error",
        "error": {
            "type": "not_found_error",
            "message": "model 'claude-9' is not served here; 'nano' is",
        },
    }
    with pytest.raises(anthropic.BadRequestError, match="no_such_field"):
        claude.messages.create(
            model="nano", messages=WHO, max_tokens=5, extra_body={"no_such_field": 1}
        )


def test_key_in_anthropics_header() -> None:
    with serving("--api-key", "secret") as server:
        with connected(server, "secret") as claude:
            claude.messages.create(model="nano", messages=WHO, max_tokens=2)
        with connected(server, "wrong") as claude, pytest.raises(anthropic.AuthenticationError):
            claude.messages.create(model="nano", messages=WHO, max_tokens=2)
