"""`response_format`: the answer is JSON that matches the schema, whatever the model prefers."""

import json
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.parrot import parrot
from tests.serve.servers import Server, serving

ASK: list[Any] = [{"role": "user", "content": "Who are you?"}]


class Animal(BaseModel):
    name: Literal["cat", "dog"]
    legs: int
    tags: list[Literal["a", "b"]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("n_draft", [0, 4])
def test_answer_matches_the_schema(client: openai.OpenAI, temperature: float, n_draft: int) -> None:
    for seed in range(5):
        reply = client.chat.completions.parse(
            model="nano",
            messages=ASK,
            response_format=Animal,
            temperature=temperature,
            seed=seed,
            max_tokens=400,
            extra_body={"n_draft": n_draft},
        )
        (choice,) = reply.choices
        if choice.finish_reason == "stop":
            assert isinstance(choice.message.parsed, Animal)
        else:  # the list did not end within the limit
            assert (choice.message.content or "").startswith("{")


def test_drafting_does_not_change_the_answer(client: openai.OpenAI) -> None:
    def said(n_draft: int) -> str | None:
        reply = client.chat.completions.create(
            model="nano",
            messages=ASK,
            response_format={"type": "json_object"},
            temperature=0,
            max_tokens=40,
            extra_body={"n_draft": n_draft},
        )
        return reply.choices[0].message.content

    assert said(0) == said(1) == said(5)


def test_streamed_choices(client: openai.OpenAI) -> None:
    schema: Any = {"enum": ["left", "right", {"up": [1, 2]}]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "way", "schema": schema}}
    texts = ["", "", "", ""]
    stream = client.chat.completions.create(
        model="nano",
        messages=ASK,
        response_format=form,
        temperature=2,
        n=4,
        seed=3,
        stream=True,
        logprobs=True,
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert all(json.loads(text) in schema["enum"] for text in texts)


def post(server: Server, form: Any, **options: Any) -> httpx.Response:
    body = {"messages": ASK, "response_format": form, "max_tokens": 20, **options}
    with server.http() as http:
        return http.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"type": "strange"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://a.example/schema.json"},
        {"not": {}},
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"properties": {"a": {"type": "string", "minLength": 3, "maxLength": 2}}},
        {"type": "array", "items": {}, "minItems": 2, "maxItems": 1},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "string", "allOf": [{"properties": {}}]},
        {"type": "string", "maxLength": 10**9},
        {"type": "array", "items": {"type": "string"}, "minItems": 10**9},
        {"type": "string", "pattern": "^a{100000}$"},
        {"type": "string", "pattern": "(("},
        {"type": "object", "properties": {f"p{i}": {} for i in range(9000)}},
        {"properties": 5},
        {"type": {"a": 1}},
    ],
)
def test_unsupported_schemas(server: Server, schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    response = post(server, form)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "response_format"


def test_invalid_response_formats(server: Server) -> None:
    for form in (
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "schema": {}},
        5,
    ):
        assert post(server, form).status_code == 400
    assert post(server, {"type": "text"}).status_code == 200
    deep: Any = {}
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": deep}}
    assert post(server, form).status_code in (200, 400)


def test_strings_have_no_control_characters(tmp_path: Path) -> None:
    """Strict parsers refuse them; this model would write a line break in a string."""
    model = parrot(tmp_path / "breaks.gguf", ['{"name": "', "a\nb", '"}'])
    named = {"type": "string", "maxLength": 3}
    schema = {"type": "object", "properties": {"name": named}, "required": ["name"]}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    with serving("--drafter", "none", "--ctx", "512", model=str(model)) as server:
        answer = post(server, form, model="breaks.gguf", temperature=0, max_tokens=40)
    text = answer.json()["choices"][0]["message"]["content"]
    assert len(json.loads(text)["name"]) <= 3
