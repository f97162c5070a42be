"""OpenAI's Responses API, through OpenAI's client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.serve.servers import Server
from tests.serve.test_tools import CLOSE, OPEN, TOOLS, speaking

FUNCTION: Any = {"type": "function", **TOOLS[0]["function"]}


def test_text(client: openai.OpenAI) -> None:
    response = client.responses.create(model="nano", input="Who are you?", temperature=0)
    assert response.output_text.startswith("I am **nano**")
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.input_tokens + response.usage.output_tokens == response.usage.total_tokens
    cut = client.responses.create(
        model="nano", input="Who are you?", temperature=0, max_output_tokens=3
    )
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_stream_equals_whole_response(client: openai.OpenAI) -> None:
    options: Any = {"model": "nano", "input": "Who are you?", "temperature": 0}
    options |= {"reasoning": {"effort": "high"}, "instructions": "Be brief."}
    whole = client.responses.create(**options)
    with client.responses.stream(**options) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert texts(final) == texts(whole)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text


def test_thoughts_are_written_as_summaries_on_request(tmp_path: Path) -> None:
    """Clients such as the AI SDK show summaries only."""
    script = ["<|channel>", "thought\n", "I wonder. ", "Hm.", "<channel|>", "The answer."]
    with speaking(tmp_path, script) as (_, client):
        options: Any = {"model": "parrot.gguf", "input": "Hi", "temperature": 0}
        options |= {"reasoning": {"effort": "low", "summary": "auto"}}
        whole = client.responses.create(**options)
        with client.responses.stream(**options) as stream:
            events = list(stream)
            final = stream.get_final_response()
        for response in (whole, final):
            thought, message = response.output
            assert thought.summary[0].text == thought.content[0].text == "I wonder. Hm."
            assert message.content[0].text == "The answer."
        deltas = [e.delta for e in events if e.type == "response.reasoning_summary_text.delta"]
        assert "".join(deltas) == "I wonder. Hm."
        shown = thought.model_dump(exclude={"content"}, exclude_none=True)
        again = client.responses.create(
            **{**options, "input": [shown, {"role": "user", "content": "x"}]}
        )
        assert again.output_text == "The answer."


def texts(response: Response) -> list[tuple[str, str]]:
    return [
        (item.type, "".join(part.text for part in item.content or ()))  # type: ignore[union-attr]
        for item in response.output
        if item.type in ("reasoning", "message")
    ]


def test_conversation_by_previous_response_id(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model="nano", input="Count from 1 to 9.", temperature=0, max_output_tokens=30
    )
    second = client.responses.create(
        model="nano", input="Who are you?", previous_response_id=first.id, temperature=0
    )
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.total_tokens
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(second.id).output_text == second.output_text
    hidden = client.responses.create(model="nano", input="Hi", store=False, max_output_tokens=2)
    for unknown in (hidden.id, "resp_unknown"):
        with pytest.raises(openai.NotFoundError, match="not stored"):
            client.responses.create(model="nano", input="Hi", previous_response_id=unknown)


class Animal(BaseModel):
    legs: int


def test_items_of_stored_responses_are_referred_to(client: openai.OpenAI) -> None:
    """As the AI SDK does, which sends no item twice."""
    first = client.responses.create(model="nano", input="Hi", temperature=0, max_output_tokens=9)
    (item,) = first.output
    assert item.id
    reference: Any = {"type": "item_reference", "id": item.id}
    question: Any = {"role": "user", "content": "Hi"}
    same: Any = {"model": "nano", "temperature": 0, "max_output_tokens": 9}
    by_reference = client.responses.create(input=[question, reference, question], **same)
    written: Any = item.model_dump(exclude_none=True)
    whole = client.responses.create(input=[question, written, question], **same)
    assert by_reference.output_text == whole.output_text
    assert by_reference.usage and whole.usage
    assert by_reference.usage.input_tokens == whole.usage.input_tokens
    again = client.responses.create(input="Hi", previous_response_id=by_reference.id, **same)
    assert again.usage and again.usage.input_tokens > whole.usage.input_tokens
    reference["id"] = "msg_other"
    with pytest.raises(openai.NotFoundError, match="is not stored here"):
        client.responses.create(input=[reference], **same)


def test_schema(client: openai.OpenAI) -> None:
    response = client.responses.parse(
        model="nano", input="Who?", text_format=Animal, temperature=0, max_output_tokens=60
    )
    if response.status == "completed":
        assert isinstance(response.output_parsed, Animal)


def test_function_call_and_its_result(tmp_path: Path) -> None:
    thought = ["<|channel>", "thought\nI need it.\n", "<channel|>"]
    call = 'call:weather{city:<|"|>Łódź<|"|>}'
    with speaking(tmp_path, [*thought, "Let me look. ", OPEN, call, CLOSE]) as (_, client):
        options: Any = {"model": "parrot.gguf", "tools": [FUNCTION], "temperature": 0}
        whole = client.responses.create(input="Weather?", **options)
        with client.responses.stream(input="Weather?", **options) as stream:
            events = list(stream)
            streamed = stream.get_final_response()
        for response in (whole, streamed):
            assert [i.type for i in response.output] == ["reasoning", "message", "function_call"]
            found = response.output[2]
            assert found.name == "weather"
            assert json.loads(found.arguments) == {"city": "Łódź"}
        kinds = {event.type for event in events}
        assert "response.function_call_arguments.done" in kinds
        result = {"type": "function_call_output", "call_id": found.call_id, "output": "Sunny."}
        history = [{"role": "user", "content": "Weather?"}, *whole.output, result]
        again = client.responses.create(input=history, **options)
        assert again.status == "completed"
        chained = client.responses.create(
            input=[result], previous_response_id=streamed.id, **options
        )
        # Ids in the prompt are random.
        assert chained.usage.input_tokens == pytest.approx(again.usage.input_tokens, abs=20)


def test_functions_in_a_namespace(tmp_path: Path) -> None:
    tools: Any = [{"type": "namespace", "name": "agents", "tools": [FUNCTION]}]
    with speaking(tmp_path, [OPEN, "call:weather{days:3}", CLOSE]) as (_, client):
        response = client.responses.create(model="parrot.gguf", input="Hi", tools=tools)
    (call,) = response.output
    assert (call.name, call.namespace) == ("weather", "agents")


def test_request_of_codex(server: Server) -> None:
    body = {
        "model": "nano",
        "instructions": "Be brief.",
        "input": [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "Rules."}],
            },
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Who are you?"}],
            },
        ],
        "tools": [{"type": "web_search", "external_web_access": False}],
        "client_metadata": {"thread_id": "t"},
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": False,
        "stream": True,
        "include": [],
        "prompt_cache_key": "k",
    }
    with server.http() as http:
        text = http.post("/v1/responses", json=body).text
    assert "event: response.completed" in text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"type": "input_image"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"tools": [{"type": "file_search"}]}, "tools"),
        ({"temperature": 9}, "temperature"),
        ({"max_output_tokens": -5}, "max_output_tokens"),
        ({"background": True}, "background"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_invalid_requests(server: Server, fields: dict[str, Any], param: str) -> None:
    with server.http() as http:
        reply = http.post("/v1/responses", json={"input": "Hi", **fields})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
