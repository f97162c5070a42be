"""Tools end to end: functions and histories to the model, tokens of the model to `tool_calls`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam

from localmtp.models import resolve
from tests.parrot import parrot
from tests.serve.servers import Server, serving

TEMPLATE = """{%- macro write(v) -%}
{%- if v is string -%}<|"|>{{ v }}<|"|>
{%- elif v is boolean -%}{{ 'true' if v else 'false' }}
{%- elif v is mapping -%}{% raw %}{{% endraw %}
{%- for k, x in v | dictsort -%}{{ k }}:{{ write(x) }}{{ ',' if not loop.last }}{%- endfor -%}
{% raw %}}{% endraw %}
{%- elif v is sequence -%}[{%- for x in v -%}{{ write(x) }}{{ ',' if not loop.last }}{%- endfor -%}]
{%- else -%}{{ v }}{%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- for t in tools or [] -%}<|tool>{{ t.function.name }}{{ write(t.function.parameters) }}<tool|>
{%- endfor -%}
{%- for m in messages -%}<|turn>{{ m.role }}
{%- if m.role == 'tool' %} {{ m.tool_call_id }} {{ m.name }}{% endif %}
{{ m.content }}
{%- for c in m.tool_calls or [] -%}
<|tool_call>call:{{ c.function.name }}{{ write(c.function.arguments) }}<tool_call|>
{%- endfor -%}<turn|>
{% endfor -%}<|turn>model
{% if enable_thinking and messages[-1].role == 'tool' %}<|channel>thought
{% endif %}"""

TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Reports the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "where": {"type": "object", "properties": {"lat": {"type": "number"}}},
                },
                "required": ["city"],
            },
        },
    }
]
ASK: list[Any] = [{"role": "user", "content": "What is the weather?"}]
OPEN, CLOSE = "<|tool_call>", "<tool_call|>"


@contextmanager
def speaking(path: Path, script: Sequence[str], **more: Any) -> Iterator[tuple[Server, Any]]:
    """A server whose model says the script, and a client."""
    model = parrot(path / "parrot.gguf", script, template=TEMPLATE, **more)
    with (
        serving("--drafter", "none", "--ctx", "1024", model=str(model)) as server,
        openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        yield server, client


def ask(client: Any, *, stream: bool, **options: Any) -> dict[str, Any]:
    """The message of the first choice, with its finish reason; streams are put together."""
    options = {"messages": ASK, "tools": TOOLS, "temperature": 0, "max_tokens": 60} | options
    if not stream:
        (choice,) = client.chat.completions.create(model="parrot.gguf", **options).choices
        message: dict[str, Any] = choice.message.model_dump()
        return message | {"finish": choice.finish_reason, "stats": choice.model_extra["stats"]}
    found: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for chunk in client.chat.completions.create(model="parrot.gguf", stream=True, **options):
        (choice,) = chunk.choices
        delta = choice.delta.model_dump()
        found["content"] += delta.get("content") or ""
        found["reasoning_content"] += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or []:
            assert call["index"] == len(found["tool_calls"])
            found["tool_calls"].append(call)
        if choice.finish_reason:
            found |= {"finish": choice.finish_reason, "stats": choice.model_extra["stats"]}
    return found


def calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [call["function"] for call in message["tool_calls"] or []]
    return [(function["name"], json.loads(function["arguments"])) for function in found]


def test_call_after_a_thought_and_a_sentence(tmp_path: Path) -> None:
    call = 'call:weather{city:<|"|>Łódź "x" {y}, 🙂<|"|>,days:3,where:{lat:51.7}}'
    thought = ["<|channel>", "thought\nI need it.\n", "<channel|>"]
    expected = {"city": 'Łódź "x" {y}, 🙂', "days": 3, "where": {"lat": 51.7}}
    with speaking(tmp_path, [*thought, "Let me look. ", OPEN, call, CLOSE]) as (server, client):
        for stream in (False, True):
            message = ask(client, stream=stream)
            assert calls(message) == [("weather", expected)]
            assert message["content"] == "Let me look. "
            assert message["reasoning_content"] == "I need it.\n"
            assert message["finish"] == "tool_calls"
            assert "unparsed_tool_calls" not in message["stats"]
        assert server.metrics()["localmtp_tool_calls_total{parsed}"] == 2


def test_several_calls_in_one_answer(tmp_path: Path) -> None:
    one, two = "call:weather{days:1}", "call:weather{days:2}"
    successors = {OPEN: [two], CLOSE: [OPEN]}
    script = ["Both. ", OPEN, one, CLOSE]
    with speaking(tmp_path, [*script, two], also={**successors, two: [CLOSE]}) as (_, client):
        options: Any = {"temperature": 1, "top_p": 1, "seed": 1, "n": 16, "max_tokens": 40}
        reply = client.chat.completions.create(
            model="parrot.gguf", messages=ASK, tools=TOOLS, extra_body={"min_p": 0.1}, **options
        )
        numbers = set()
        for choice in reply.choices:
            message = choice.message.model_dump()
            found = calls(message)
            numbers.add(len(found))
            assert all(call in [("weather", {"days": n}) for n in (1, 2)] for call in found)
            assert len({call["id"] for call in message["tool_calls"]}) == len(found)
        assert max(numbers) > 1
        single = client.chat.completions.create(
            model="parrot.gguf",
            messages=ASK,
            tools=TOOLS,
            parallel_tool_calls=False,
            extra_body={"min_p": 0.1},
            **options,
        )
        assert {len(choice.message.tool_calls or []) for choice in single.choices} == {1}


def test_call_that_cannot_be_parsed_is_text(tmp_path: Path) -> None:
    script = ["Well. ", OPEN, 'call weather <|"|>now<|"|> please', CLOSE]
    with speaking(tmp_path, script) as (server, client):
        for stream in (False, True):
            message = ask(client, stream=stream)
            assert message["content"] == 'Well. call weather "now" please'
            assert not message["tool_calls"]
            assert message["finish"] == "stop"
            assert message["stats"]["unparsed_tool_calls"] == 1
        assert server.metrics()["localmtp_tool_calls_total{unparsed}"] == 2


def test_call_that_is_cut_off_is_text(tmp_path: Path) -> None:
    script = [OPEN, 'call:weather{city:<|"|>', "Par", 'is<|"|>}', CLOSE]
    with speaking(tmp_path, script) as (_, client):
        message = ask(client, stream=False, max_tokens=3)
        assert not message["tool_calls"]
        assert message["content"] == 'call:weather{city:"Par'
        assert message["finish"] == "length"
        assert calls(ask(client, stream=False)) == [("weather", {"city": "Paris"})]


def test_markers_written_as_text_are_text(tmp_path: Path) -> None:
    script = ["<|tool", "_call>call:weather{}", "<tool", "_call|> ok"]
    with speaking(tmp_path, script) as (_, client):
        message = ask(client, stream=True)
    assert message["content"] == "<|tool_call>call:weather{}<tool_call|> ok"
    assert message["tool_calls"] == []


def test_calls_are_text_without_tools(tmp_path: Path) -> None:
    with speaking(tmp_path, ["Hm. ", OPEN, "call:weather{days:3}", CLOSE]) as (_, client):
        for options in ({"tools": openai.NOT_GIVEN}, {"tool_choice": "none"}):
            message = ask(client, stream=True, **options)
            assert message["content"] == "Hm. call:weather{days:3}"
            assert message["tool_calls"] == []


def test_run_prints_calls_without_markers(tmp_path: Path) -> None:
    script = ["Hm. ", OPEN, "call:weather{days:3}", CLOSE]
    model = parrot(tmp_path / "parrot.gguf", script, template=TEMPLATE)
    command = [sys.executable, "-m", "localmtp", "run", str(model), "Hi", "--drafter", "none"]
    command += ["--threads", "1", "--ctx", "512", "--temp", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "Hm. call:weather{days:3}\n"


def test_thought_that_the_template_opens(tmp_path: Path) -> None:
    history = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [called("c1", "{}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    ]
    with speaking(tmp_path, ["So it is sunny.", "<channel|>", "Sunny!"]) as (_, client):
        message = ask(client, stream=True, messages=history, reasoning_effort="high")
    assert (message["reasoning_content"], message["content"]) == ("So it is sunny.", "Sunny!")


def called(call_id: str | None, arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"type": "function", "function": function} | ({"id": call_id} if call_id else {})


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


def test_agent_loop_of_ten_calls(tmp_path: Path) -> None:
    """Each answer calls the tool once more; the history grows by the call and its result."""
    script = ["Next. ", OPEN, 'call:weather{city:<|"|>Paris<|"|>}', CLOSE]
    with speaking(tmp_path, script) as (_, client):
        messages: list[Any] = [*ASK]
        for _turn in range(10):
            message = ask(client, stream=True, messages=messages)
            (call,) = message["tool_calls"]
            assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
            past = {"role": "assistant", "content": message["content"], "tool_calls": [call]}
            messages += [past, {"role": "tool", "tool_call_id": call["id"], "content": "Sunny."}]
    assert len(messages) == 21
