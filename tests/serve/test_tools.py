"""Tools: told to the model by its template, read from its answer, given back in histories.

nano was never trained to call a function, so what calls look like is taken from the notation of
the published templates, and a copy of nano with such a template answers the requests.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionToolParam

from localmtp.engine.stats import Counters
from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.models import resolve
from localmtp.serve.generation.job import Delta, Done
from localmtp.serve.wire.responses import ChatWriter, Choice
from localmtp.serve.wire.tools import Call, CallScanner, parse_call
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
{{ m.content }}
{%- for c in m.tool_calls or [] -%}
<|tool_call>call:{{ c.function.name }}{{ write(c.function.arguments) }}<tool_call|>
{%- endfor -%}<turn|>
{% endfor -%}<|turn>model
"""
KEYS = st.text("abcdefgh_xyz", min_size=1, max_size=5)
VALUES = st.recursive(
    st.booleans()
    | st.none()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8).filter(lambda text: '<|"|>' not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


def written(arguments: dict[str, Any]) -> str:
    """A call as a template puts it into a history."""
    call = {"function": {"name": "f", "arguments": arguments}}
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    text = ChatTemplate(TEMPLATE, bos="").render([turn], think=False)
    return text[text.index("<|tool_call>") : text.index("<turn|>")]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(arguments=ARGUMENTS)
def test_what_a_template_writes_is_read_back(arguments: dict[str, Any]) -> None:
    text, (call,) = CallScanner().feed(written(arguments))
    assert (text, call.name, call.arguments) == ("", "f", arguments)
    assert json.loads(call.as_dict()["function"]["arguments"]) == arguments


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(arguments=ARGUMENTS, size=st.integers(1, 9))
def test_calls_are_found_in_pieces(arguments: dict[str, Any], size: int) -> None:
    whole = f"One <moment|.{written(arguments)}{written({})} <|tool_cal"
    scanner, text = CallScanner(), ""
    calls: list[Call] = []
    for at in range(0, len(whole), size):
        more, found = scanner.feed(whole[at : at + size])
        text, calls = text + more, calls + found
    rest, found = scanner.rest()
    assert text + rest == "One <moment|. <|tool_cal"
    assert [call.arguments for call in calls] == [arguments, {}]
    assert found == []


@given(text=st.text('{}[]:,"<|>abc1e-.', max_size=30))
def test_what_is_no_call_is_text(text: str) -> None:
    call = parse_call("call:f{" + text)
    scanner = CallScanner()
    shown, calls = scanner.feed(f"<|tool_call>call:f{{{text}<tool_call|>")
    if call is None and "<tool_call|>" not in text:
        assert (shown, calls) == (f"<|tool_call>call:f{{{text}<tool_call|>", [])


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('call:f{<|"|>a b<|"|>:1}', {"a b": 1}),
        ('call:f { a : [ 1 , <|"|>}<|"|> ] , }', {"a": [1, "}"]}),
        ("call:f{a:null,b:None,c:-1.5e-7}", {"a": None, "b": None, "c": -1.5e-7}),
        ("call:f{" + "a:{" * 60 + "}" * 61, None),
        ("call:f{" + "a:[" * 70 + "]" * 70 + "}", ()),
        ("call:f{a:1", ()),
        ("call:f{a:1} and more", ()),
        ("f{a:1}", ()),
        ("call:f{a:01x}", ()),
    ],
)
def test_notation(text: str, arguments: Any) -> None:
    call = parse_call(text)
    if arguments == ():
        assert call is None
    elif arguments is None:
        assert call is not None
    else:
        assert call is not None
        assert call.arguments == arguments


def test_answers_with_calls_are_what_openai_expects() -> None:
    said = "Let me look." + written({"city": "Łódź"}) + written({"n": 2})
    ended = Done("stop", Counters().snapshot())
    answer = Choice(text=said, thought="Two calls.", done=ended)
    shape = ChatWriter("nano", with_usage=False, logprobs=False, scanners=CallScanner)
    whole = ChatCompletion.model_validate(shape.whole([answer]))
    (choice,) = whole.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    called = [c.function for c in choice.message.tool_calls or [] if c.type == "function"]
    assert [(c.name, c.arguments) for c in called] == [("f", '{"city": "Łódź"}'), ("f", '{"n": 2}')]

    shape = ChatWriter("nano", with_usage=False, logprobs=False, scanners=CallScanner)
    updates: list[Delta | Done] = [*(Delta(letter, "") for letter in said), ended]
    chunks = [ChatCompletionChunk.model_validate(shape.chunk(0, update)) for update in updates]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [call.index for call in calls] == [0, 1]
    assert len({call.id for call in calls}) == 2
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Let me look."
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def with_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    files = resolve("nano")
    path = tmp_path_factory.mktemp("tools") / "tools.gguf"
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--chat-template", TEMPLATE]
    subprocess.run([*command, files.target, path], check=True, capture_output=True)
    with (
        serving("--drafter", str(files.drafter), model=str(path)) as server,
        openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        yield client


def test_the_model_is_told_of_tools_and_of_earlier_calls(with_tools: openai.OpenAI) -> None:
    def prompt_tokens(messages: Any, **options: Any) -> int:
        reply = with_tools.chat.completions.create(
            model="tools.gguf", messages=messages, max_tokens=1, **options
        )
        assert reply.usage is not None
        return int(reply.usage.prompt_tokens)

    ask = [{"role": "user", "content": "What is the weather?"}]
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [
        *ask,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    ]
    plain = prompt_tokens(ask)
    assert prompt_tokens(ask, tools=TOOLS) > plain
    assert prompt_tokens(ask, tools=TOOLS, tool_choice="none") == plain
    assert prompt_tokens(history, tools=TOOLS) > prompt_tokens(ask, tools=TOOLS)
    assert prompt_tokens(ask, tools=TOOLS, tool_choice="required") > plain


def test_calls_that_cannot_be(server: Server, with_tools: openai.OpenAI) -> None:
    def refused(client: openai.OpenAI, model: str, **options: Any) -> str:
        options = {"messages": [{"role": "user", "content": "Hello"}], **options}
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, **options)
        return str(caught.value)

    named = {"type": "function", "function": {"name": "news"}}
    assert "'news'" in refused(with_tools, "tools.gguf", tools=TOOLS, tool_choice=named)
    assert "no tools" in refused(with_tools, "tools.gguf", tool_choice="required")
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "[1]"}}
    history = [{"role": "assistant", "tool_calls": [call]}]
    assert "JSON object" in refused(with_tools, "tools.gguf", messages=history)
    odd = [{"type": "function", "function": {"name": "a b", "parameters": {}}}]
    assert "name" in refused(with_tools, "tools.gguf", tools=odd)
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        assert "does not support tools" in refused(client, "nano", tools=TOOLS)
