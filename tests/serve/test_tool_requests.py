"""Requests with tools: what grammars enforce, and histories with mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from localmtp.models import resolve
from tests.serve.servers import Server, serving
from tests.serve.test_tools import ASK, TEMPLATE, TOOLS, called, calls


@pytest.fixture(scope="module")
def with_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """nano, which was never trained to call a function, with a template that knows tools."""
    files = resolve("nano")
    path = tmp_path_factory.mktemp("tools") / "tools.gguf"
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--chat-template", TEMPLATE]
    subprocess.run([*command, files.target, path], check=True, capture_output=True)
    with (
        serving("--drafter", str(files.drafter), model=str(path)) as server,
        openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        yield client


STRICT: Any = {
    "type": "function",
    "function": {
        "name": "files:read/all",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "mode": {"enum": ["fast", "slow"]},
                "lines": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
                "deep": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
            },
            "required": ["mode", "deep"],
            "additionalProperties": False,
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"$ref": "#/$defs/node"}, "on": {"type": "boolean"}},
                    "required": ["on"],
                }
            },
        },
    },
}


@pytest.mark.parametrize("choice", ["required", "name"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_required_call_matches_the_schema(
    with_tools: openai.OpenAI, choice: str, temperature: float
) -> None:
    named: Any = {"type": "function", "function": {"name": "files:read/all"}}
    for seed in range(3):
        reply = with_tools.chat.completions.create(
            model="tools.gguf",
            messages=ASK,
            tools=[*TOOLS, STRICT] if choice == "name" else [STRICT],
            tool_choice=named if choice == "name" else "required",
            temperature=temperature,
            seed=seed,
            max_tokens=300,
            parallel_tool_calls=False,
        )
        (only,) = reply.choices
        if only.finish_reason == "length":
            continue
        assert only.finish_reason == "tool_calls"
        ((name, arguments),) = calls(only.message.model_dump())
        assert name == "files:read/all"
        assert not only.message.content
        assert arguments["mode"] in ("fast", "slow")
        assert {"mode", "deep"} <= arguments.keys() <= {"mode", "deep", "lines"}
        assert all(isinstance(n, int) for n in arguments.get("lines", []))
        assert arguments["deep"] is None or isinstance(arguments["deep"]["on"], bool)


def test_schema_of_the_answer_and_tools(with_tools: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": [1, 2]}}}
    for seed in range(4):
        (choice,) = with_tools.chat.completions.create(
            model="tools.gguf",
            messages=ASK,
            tools=[STRICT],
            response_format=form,
            seed=seed,
            max_tokens=200,
        ).choices
        if choice.finish_reason == "stop":
            assert json.loads(choice.message.content or "") in (1, 2)
        else:
            assert choice.finish_reason in ("tool_calls", "length")


def test_tools_and_past_calls_reach_the_prompt(with_tools: openai.OpenAI) -> None:
    def prompt_tokens(messages: Any, **options: Any) -> int:
        reply = with_tools.chat.completions.create(
            model="tools.gguf", messages=messages, max_tokens=1, **options
        )
        assert reply.usage is not None
        return int(reply.usage.prompt_tokens)

    history = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [called("c1", "{}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    ]
    plain = prompt_tokens(ASK)
    assert prompt_tokens(ASK, tools=TOOLS) > plain
    assert prompt_tokens(ASK, tools=TOOLS, tool_choice="none") == plain
    assert prompt_tokens(history, tools=TOOLS) > prompt_tokens(ASK, tools=TOOLS)


HISTORIES: dict[str, tuple[list[Any], list[Any]]] = {
    "arguments cut off": ([called("c1", '{"city": "Par')], []),
    "arguments null": ([called("c1", None)], []),
    "arguments a list": ([called("c1", "[]")], []),
    "arguments an object": ([called("c1", {"city": "Paris"})], []),
    "no id": ([called(None, "{}")], [{"role": "tool", "content": "x"}]),
    "by name": ([called("c1", "{}")], [{"role": "tool", "name": "weather", "content": "x"}]),
    "unknown id": ([called("c1", "{}")], [{"role": "tool", "tool_call_id": "?", "content": "x"}]),
    "two results": ([called("c1", "{}")], [{"role": "tool", "content": "x"}] * 2),
    "no result": ([called("c1", "{}")], []),
    "content null": ([called("c1", "{}")], [{"role": "tool", "content": None}]),
    "content a list": ([called("c1", "{}")], [{"role": "tool", "content": ["x", "y"]}]),
    "content in parts": ([], [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]),
    "systems": ([], [{"role": "developer", "content": "A"}, {"role": "system", "content": "B"}]),
    "result of nothing": ([], [{"role": "tool", "tool_call_id": "c9", "content": "x"}]),
}


@pytest.mark.parametrize("what", HISTORIES)
def test_history_with_mistakes_is_accepted(with_tools: openai.OpenAI, what: str) -> None:
    past, after = HISTORIES[what]
    assistant: dict[str, Any] = {"role": "assistant", "content": "Hm."}
    messages = [*ASK, assistant | ({"tool_calls": past} if past else {}), *after, *ASK]
    reply = with_tools.chat.completions.create(
        model="tools.gguf", messages=messages, tools=TOOLS, max_tokens=2
    )
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0


def test_deprecated_functions_in_a_history(with_tools: openai.OpenAI) -> None:
    messages: Any = [
        *ASK,
        {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "x"},
    ]
    with_tools.chat.completions.create(model="tools.gguf", messages=messages, max_tokens=2)


def test_invalid_tools(server: Server, with_tools: openai.OpenAI) -> None:
    def error(client: openai.OpenAI, model: str, **options: Any) -> str:
        options = {"messages": ASK, **options}
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, **options)
        return str(caught.value)

    named = {"type": "function", "function": {"name": "news"}}
    assert "'news'" in error(with_tools, "tools.gguf", tools=TOOLS, tool_choice=named)
    assert "no tools" in error(with_tools, "tools.gguf", tool_choice="required")
    odd = [{"type": "function", "function": {"name": "a b", "parameters": {}}}]
    assert "name" in error(with_tools, "tools.gguf", tools=odd)
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        assert "does not support tools" in error(client, "nano", tools=TOOLS)


def nested(depth: int) -> Any:
    schema: Any = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


ODD: list[Any] = [
    {"properties": {"a": nested(100)}},
    {"properties": {"a": nested(300)}},
    {"properties": {"a": nested(450)}},
    {"properties": {"\ud800": {"enum": ["\udfff", "\x00", 'a"\\\n']}}, "required": ["\ud800"]},
    {"properties": {"a": {"$ref": "#/properties/a"}}},
    {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"properties": {"a": 5, "b": {"anyOf": []}, "c": {"enum": []}, "d": {"type": ["odd", 1]}}},
    {"properties": [], "required": 5},
    {"properties": {f"p{i}": {"enum": [{"x": [i]}, i]} for i in range(800)}},
    {"properties": {"a": {"type": "array", "items": {}, "minItems": 3, "maxItems": 1}}},
    {"properties": {"a b:{}": {"const": None}}, "required": ["a b:{}"]},
]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_odd_parameters_of_required_calls(with_tools: openai.OpenAI, number: int) -> None:
    function = {"name": "f", "parameters": {"type": "object", **ODD[number]}}
    tools = [{"type": "function", "function": function}]
    body = {"model": "tools.gguf", "messages": ASK, "tools": tools, "tool_choice": "required"}
    content = json.dumps({**body, "max_tokens": 12}).encode()
    headers = {"Content-Type": "application/json"}
    url = str(with_tools.base_url) + "chat/completions"
    reply = httpx.post(url, content=content, headers=headers, timeout=60, trust_env=False)
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 400:
        assert reply.json()["error"]["param"] in ("tools", "response_format", "messages")
