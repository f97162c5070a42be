"""Tool calls of Llama 3 and Mistral in conversations, as the chat holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from localmtp.engine.events import Channel, Generated
from localmtp.engine.pair import LoadOptions
from localmtp.models.files import without_drafter
from localmtp.session import Choices, Session
from localmtp.session.local import open_session
from tests.parrot import parrot
from tests.serve.test_tag_tools import QWEN3, QWEN35, XML_CALL
from tests.serve.test_tools import TOOLS

LLAMA = """{%- if tools %}<|start_header_id|>system<|end_header_id|>

Respond in the format {"name": function name, "parameters": dictionary of arguments}.
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|eot_id|>{% endif %}
{%- for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{% for call in m.tool_calls or [] -%}
{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}
{%- else %}{{ m.content }}{% endfor %}<|eot_id|>
{%- endfor %}<|start_header_id|>assistant<|end_header_id|>

"""
_MISTRAL = """{%- if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}[INST]{{ m.content }}[/INST]
{%- elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]
{%- elif m.tool_calls %}CALLS
{%- else %}{{ m.content }}{% endif %}
{%- endfor %}"""
OLD_MISTRAL = _MISTRAL.replace(
    "CALLS",
    """[TOOL_CALLS] [{% for c in m.tool_calls %}{"name": "{{ c.function.name }}",
"arguments": {{ c.function.arguments | tojson }}}{% endfor %}]""",
)
MISTRAL = _MISTRAL.replace(
    "CALLS",
    """{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.name -}}
[ARGS]{{ c.function.arguments | tojson }}{% endfor %}""",
)
FOX: Any = {"name": "weather", "arguments": {"city": "Łódź [x] {y}; \n", "days": 3}}
ONE, TWO = ("weather", FOX["arguments"]), ("weather", {"city": "Oslo"})
BARE = json.dumps({"name": "weather", "parameters": FOX["arguments"]}, ensure_ascii=False)
LISTED = json.dumps([FOX, {"name": "weather", "arguments": {"city": "Oslo"}}])
ARGUMENTS = json.dumps(FOX["arguments"], ensure_ascii=False)
ARGS = ["[TOOL_CALLS]", "weather", "[CALL_ID]", "a1B2c3D4e", "[ARGS]", ARGUMENTS]
CONTROL = ("<|python_tag|>", "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")

CASES: dict[str, tuple[str, Sequence[str], str, list[Any]]] = {
    "qwen, no opening": (
        QWEN35, ["</think>", "Well. <func", "tion=" + XML_CALL.strip()[10:], "\n</tool_", "call>"],
        "Well. ", [("weather", {"city": "Łódź <b>", "days": 3})],
    ),
    "glm": (
        QWEN3,
        ["<tool_call>", "weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n",
         "</tool_call>"],
        "", [TWO],
    ),
    "llama": (LLAMA, [BARE], "", [ONE]),
    "llama, split": (LLAMA, [" ", "{", '"na', 'me"', *BARE[7:].partition("[x")], "", [ONE]),
    "llama, python tag": (LLAMA, ["<|python_tag|>", BARE], "", [ONE]),
    "llama, tag in text": (LLAMA, ["Well. <|pyth", "on_tag|", ">" + BARE], "Well. ", [ONE]),
    "llama, two calls": (
        LLAMA, [BARE, '; {"name": "weather", "parameters": {"city": "Oslo"}}'], "", [ONE, TWO],
    ),
    "mistral, list": (OLD_MISTRAL, ["[TOOL_CALLS]", " " + LISTED], "", [ONE, TWO]),
    "mistral, list, split": (
        OLD_MISTRAL, ["Well. [TO", "OL_CALLS", "] [", LISTED[1:]], "Well. ", [ONE, TWO],
    ),
    "mistral, arguments": (MISTRAL, ["Well. ", *ARGS], "Well. ", [ONE]),
    "mistral, two calls": (
        MISTRAL,
        ["[TOOL_CALLS]wea", "ther[AR", "GS]" + ARGUMENTS, "[TOOL_", 'CALLS]weather[ARGS]{"city":',
         '"Oslo"}'],
        "", [ONE, TWO],
    ),
}  # fmt: skip


def opened(path: Path, script: Sequence[str], template: str) -> Session:
    model = parrot(path / "parrot.gguf", script, template=template, control=CONTROL)
    choices = Choices(temperature=0.0, max_tokens=60)
    files = without_drafter("parrot", model, "none")
    session = open_session(files, choices, LoadOptions(threads=1, context=1024))
    session.tools = [{**tool} for tool in TOOLS]
    return session


def said(session: Session) -> str:
    """The answer, which must be what was streamed outside of calls."""
    pieces = [
        piece
        for event in session.ask("What is the weather?")
        if isinstance(event, Generated)
        for piece in event.pieces
    ]
    text = session.messages[-1].text
    if session.messages[-1].calls:
        assert "".join(p.text for p in pieces if p.channel is Channel.ANSWER) == text
    return text


@pytest.mark.parametrize(("template", "script", "text", "called"), CASES.values(), ids=CASES)
def test_calls(
    tmp_path: Path, template: str, script: Sequence[str], text: str, called: list[Any]
) -> None:
    session = opened(tmp_path, script, template)
    try:
        assert said(session) == text
        calls = session.messages[-1].calls
        assert [(call.name, call.arguments) for call in calls] == called
        if len(calls) == 1:  # the template renders the call and its result
            session.continue_with(["[TOOL_CALLS] rain"])
            assert "rain" in session.prompt()
    finally:
        session.close()


@pytest.mark.parametrize(
    "script",
    [
        ['{"name": ', '"Bob", "parameters"', ": {}}"],
        ['{"city": ', '"Oslo"}'],
        ["{", '"na'],
        ['{"name": "weather", ', '"parameters": {}} is a call.'],
        ["{x} is ", '{"name": "weather", "parameters": {}}'],
    ],
    ids=["undeclared", "other key", "beginning", "text after it", "text before it"],
)
def test_json_that_is_no_call_stays_text(tmp_path: Path, script: list[str]) -> None:
    session = opened(tmp_path, script, LLAMA)
    try:
        assert said(session) == "".join(script)
        assert not session.messages[-1].calls
    finally:
        session.close()
