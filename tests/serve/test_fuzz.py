"""Random bodies: a response or a client error, never a server error."""

import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmtp.serve.dialects.anthropic_requests import MessagesRequest
from localmtp.serve.dialects.responses_requests import ResponsesRequest
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest
from tests.fuzz.budget import examples
from tests.serve.servers import Server

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["auto", "user", "none", "<|channel>", "<turn|>", "\ud800", "\x00"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=30)}
    ),
    min_size=1,
    max_size=4,
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, 2**62),
    "min_p": st.floats(0, 1),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "stop": st.lists(st.text(min_size=1, max_size=3), max_size=4),
    "n": st.integers(1, 3),
    "n_draft": st.integers(0, 16),
    "stream": st.booleans(),
}
ENDS = r"data: \[DONE\]\n\n$|event: (response.(completed|incomplete)|message_stop)\n.*\n\n$"
EASY = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "number", "null", "boolean", "odd"]),
            "enum": st.lists(SCALARS, max_size=3),
            "const": SCALARS,
            "pattern": st.text('^$ab(|)[]*+?.\\\\d"', max_size=6),
            "minLength": st.integers(-2, 20),
            "maxLength": st.integers(-2, 20),
            "minimum": st.integers(-(10**20), 10**20),
            "maximum": st.integers(-(10**20), 10**20),
            "format": st.sampled_from(["date", "uuid", "time", "date-time", "odd"]),
            "$ref": st.sampled_from(["#", "#/properties/a", "#/$defs/a", "a"]),
        },
    )
    | JSON,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", ["string", "null"]]),
            "properties": st.dictionaries(st.text(max_size=4), inner, max_size=3),
            "required": st.lists(st.text(max_size=4), max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": st.lists(inner, max_size=3),
            "minItems": st.integers(-2, 20),
            "maxItems": st.integers(-2, 20),
            "anyOf": st.lists(inner, max_size=3),
            "allOf": st.lists(inner, max_size=3),
            "$defs": st.dictionaries(st.just("a"), inner),
        },
    ),
    max_leaves=5,
)


def body_of(
    prompt: str, prompts: st.SearchStrategy[Any], fields: set[str]
) -> st.SearchStrategy[Any]:
    """Mostly valid requests with random values in some fields."""
    wild = st.dictionaries(st.sampled_from(sorted(fields)), JSON, max_size=2)
    valid = st.fixed_dictionaries({prompt: prompts}, optional=GOOD)
    # Last, so that accepted requests end soon.
    return st.builds(lambda a, b: {**a, **b, "max_tokens": 2}, valid, wild)


def check(server: Server, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    with server.http() as http:
        response = http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code == 200 and isinstance(body, dict) and body.get("stream"):
        assert re.search(ENDS, response.text)
    elif response.status_code == 200:
        assert {"choices", "output", "content", "input_tokens"} & response.json().keys()
    else:
        assert response.json()["error"]["message"]


@EASY
@given(body=body_of("messages", MESSAGES, set(ChatRequest.model_fields)))
def test_random_chat_requests(server: Server, body: Any) -> None:
    check(server, "/v1/chat/completions", body)


@EASY
@given(body=body_of("prompt", st.text(max_size=30), set(CompletionRequest.model_fields)))
def test_random_completion_requests(server: Server, body: Any) -> None:
    check(server, "/v1/completions", body)


BLOCKS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                [
                    "text",
                    "input_text",
                    "thinking",
                    "tool_use",
                    "tool_result",
                    "image",
                    "message",
                    "reasoning",
                    "function_call",
                    "function_call_output",
                    "item_reference",
                ]
            ),
            "role": st.sampled_from(["user", "assistant", "developer", "tool"]),
            "text": st.text(max_size=5) | SCALARS,
            "content": st.text(max_size=5) | JSON,
            "name": st.text(max_size=5) | SCALARS,
            "arguments": st.just("{}") | JSON,
            "input": JSON,
            "call_id": SCALARS,
            "tool_use_id": SCALARS,
            "id": SCALARS,
        },
    )
    | JSON,
    max_size=3,
)


@EASY
@given(body=body_of("input", BLOCKS, set(ResponsesRequest.model_fields)))
def test_random_requests_of_the_responses_api(server: Server, body: Any) -> None:
    body["max_output_tokens"] = body.pop("max_tokens")
    check(server, "/v1/responses", {k: v for k, v in body.items() if k != "n"})


@EASY
@given(
    body=body_of(
        "messages",
        st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": BLOCKS}), max_size=3),
        set(MessagesRequest.model_fields),
    )
)
def test_random_requests_of_the_messages_api(server: Server, body: Any) -> None:
    body = {k: v for k, v in body.items() if k not in ("n", "stop")}
    check(server, "/v1/messages", body)
    check(server, "/v1/messages/count_tokens", {"messages": body.get("messages")})


@EASY
@given(body=JSON)
def test_random_json(server: Server, body: Any) -> None:
    for path in ("chat/completions", "completions", "responses", "messages"):
        check(server, f"/v1/{path}", body)


@EASY
@given(schema=SCHEMAS, greedy=st.booleans())
def test_random_schemas(server: Server, schema: Any, greedy: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    body = {"messages": [{"role": "user", "content": "Hello"}], "response_format": form}
    check(server, "/v1/chat/completions", {**body, "max_tokens": 8, "temperature": 2 - 2 * greedy})
