"""Tools end to end: functions and histories to the model, tokens of the model to `tool_calls`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import ChatCompletionToolParam

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
