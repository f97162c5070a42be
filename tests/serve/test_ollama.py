"""Ollama's API through its own package, and answers that begin with the client's text."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest

from tests.parrot import parrot
from tests.serve.servers import Server, serving
from tests.serve.test_tools import CLOSE, OPEN, TEMPLATE, TOOLS

COUNT: list[Any] = [{"role": "user", "content": "Count from 1 to 9."}]
GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 40, "num_ctx": 4096}


@pytest.fixture
def nano(server: Server) -> Iterator[ollama.Client]:
    yield ollama.Client(host=server.root, trust_env=False)


def test_chat_and_generate(server: Server, nano: ollama.Client) -> None:
    whole = nano.chat("nano:latest", COUNT, options=GREEDY)
    assert whole.model == "nano:latest" and whole.done and whole.done_reason == "stop"
    assert whole.eval_count and whole.eval_duration and whole.prompt_eval_count
    parts = list(nano.chat("nano", COUNT, options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts].count(True) == 1 and parts[-1].done
    assert parts[-1].eval_count == whole.eval_count
    prompt = COUNT[0]["content"]
    assert nano.generate("nano", prompt, options=GREEDY).response == whole.message.content
    lines = list(nano.generate("nano", prompt, options=GREEDY, stream=True, keep_alive="5m"))
    assert "".join(line.response or "" for line in lines) == whole.message.content
    raw = nano.generate("nano", "1, 2, 3, 4,", raw=True, options={**GREEDY, "num_predict": 5})
    assert raw.done_reason == "length" and raw.eval_count == 5
    with server.http() as http:
        answer = http.post("/api/chat", json={"model": "nano", "messages": COUNT, "stream": True})
    assert answer.headers["content-type"].startswith("application/x-ndjson")


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain"])
def test_bodies_need_no_type_unless_a_web_page_sends_them(server: Server, kind: str) -> None:
    """As from `curl -d` and LiteLLM. Browsers name the page's origin."""
    body = json.dumps({"model": "nano", "prompt": "Hi", "options": {"num_predict": 2}})
    headers = {"Content-Type": kind} if kind else {}
    with server.http() as http:
        answer = http.post("/api/generate", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        for page in ({"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            refused = http.post("/api/generate", content=body, headers={**headers, **page})
            assert refused.status_code == 400 and "application/json" in refused.text


def test_formats_are_held(nano: ollama.Client) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
    answer = nano.chat("nano", COUNT, format={**schema, "required": ["n"]}, options=GREEDY)
    assert '"n"' in (answer.message.content or "")


def test_models_and_loading(nano: ollama.Client) -> None:
    (model,) = nano.list().models
    assert model.model == "nano" and model.size and model.digest
    shown = nano.show("nano")
    assert shown.capabilities and "completion" in shown.capabilities
    assert shown.modelinfo and shown.modelinfo["gemma4.context_length"]
    assert nano.generate("nano", "").done_reason == "load"
    assert nano.chat("nano", []).done_reason == "load"
    assert len(nano.ps().models) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "other", "messages": COUNT}, "not served"),
        ({"model": "other", "messages": []}, "not served"),
        ({"model": "nano", "messages": COUNT, "options": {"mirostat": 2}}, "mirostat"),
        ({"model": "nano", "messages": COUNT, "options": {"num_predict": "x"}}, "num_predict"),
        ({"model": "nano", "messages": COUNT, "format": "xml"}, "format"),
        ({"model": "nano", "messages": [{"role": "user", "images": ["é"]}]}, "base64"),
        ({"model": "nano", "messages": [{"role": "boss", "content": "x"}]}, "role"),
    ],
)
def test_errors_have_ollamas_form(server: Server, body: dict[str, Any], message: str) -> None:
    with server.http() as http:
        answer = http.post("/api/chat", json=body)
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]


def test_images_without_a_projector_are_refused(nano: ollama.Client) -> None:
    image = base64.b64encode(b"\x89PNG\r\n").decode()
    with pytest.raises(ollama.ResponseError):
        nano.chat("nano", [{"role": "user", "content": "What?", "images": [image]}])


def test_tools_and_thoughts(tmp_path: Path) -> None:
    call = 'call:weather{city:<|"|>Oslo<|"|>,days:2}'
    script = ["<|channel>", "thought\nLet me see.", "<channel|>", "Yes. ", OPEN, call, CLOSE]
    model = parrot(tmp_path / "parrot.gguf", script, template=TEMPLATE)
    with serving("--drafter", "none", "--ctx", "1024", model=str(model)) as server:
        client = ollama.Client(host=server.root, trust_env=False)
        tools: list[Any] = [*TOOLS]
        greedy = {"temperature": 0}
        answer = client.chat("parrot.gguf", COUNT, tools=tools, think=True, options=greedy)
        check(answer.message)
        parts = client.chat("parrot.gguf", COUNT, tools=tools, options=greedy, stream=True)
        messages = [part.message for part in parts]
        calls = [call for message in messages for call in message.tool_calls or ()]
        assert len(calls) == 1 and calls[0].function.arguments == {"city": "Oslo", "days": 2}
        assert "".join(message.thinking or "" for message in messages) == "Let me see."
        history = [*COUNT, answer.message, {"role": "tool", "tool_name": "weather", "content": "7"}]
        assert client.chat("parrot.gguf", history, tools=tools, options=greedy).done
        check_custom_tool(server)


def check(message: ollama.Message) -> None:
    (call,) = message.tool_calls or ()
    assert call.function.name == "weather"
    assert call.function.arguments == {"city": "Oslo", "days": 2}
    assert message.thinking == "Let me see." and message.content == "Yes. "


def check_custom_tool(server: Server) -> None:
    """OpenAI's custom tools take a text; the model calls a function with one argument."""
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        tool: Any = {"type": "custom", "name": "weather", "description": "Reports it."}
        answer = client.responses.create(
            model="parrot.gguf", input="Weather?", tools=[tool], temperature=0
        )
        item = answer.output[-1]
        assert item.type == "custom_tool_call" and "Oslo" in item.input
        output: Any = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "7"}
        again = client.responses.create(
            model="parrot.gguf",
            input=[output],
            previous_response_id=answer.id,
            tools=[tool],
            stream=True,
        )
        kinds = [event.type for event in again]
        assert "response.custom_tool_call_input.done" in kinds
        assert kinds[-1] == "response.completed"


def test_answers_begin_with_the_clients_text(server: Server) -> None:
    question: Any = {"role": "user", "content": "Count from 1 to 9."}
    begun: Any = {"role": "assistant", "content": "1, 2, 3, 4, 5,"}
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        whole = client.chat.completions.create(
            model="nano", messages=[question], temperature=0, max_tokens=40
        )
        expected = whole.choices[0].message.content
        assert expected and expected.startswith(begun["content"])
        rest = client.chat.completions.create(
            model="nano",
            messages=[question, begun],
            temperature=0,
            max_tokens=40,
            extra_body={"continue_final_message": True, "add_generation_prompt": False},
        )
        assert begun["content"] + (rest.choices[0].message.content or "") == expected
        with pytest.raises(openai.BadRequestError, match="continue_final_message"):
            client.chat.completions.create(
                model="nano", messages=[question], extra_body={"continue_final_message": True}
            )
    with anthropic.Anthropic(base_url=server.root, api_key="any", max_retries=0) as other:
        answer = other.messages.create(
            model="nano",
            max_tokens=40,
            messages=[question, begun],
            extra_body={"temperature": 0},
        )
        assert answer.content[0].type == "text"
        assert begun["content"] + answer.content[0].text == expected
    with httpx.Client(base_url=server.root, trust_env=False) as http:
        assert http.get("/api/version").json()["version"]
