"""Invalid requests: one clear error each, in OpenAI's format."""

import json
import socket
from typing import Any

import httpx
import pytest

from tests.serve.servers import Server

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def refused(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    assert len(error["message"]) < 300
    return error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages"),
        ({"messages": [{"content": "Hello"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
        ({**HELLO, "max_tokens": "12"}, "max_tokens"),
        ({**HELLO, "max_tokens": 0}, "max_tokens"),
        ({**HELLO, "max_tokens": -7}, "max_tokens"),
        ({**HELLO, "max_tokens": 10**30}, "max_tokens"),
        ({**HELLO, "max_tokens": 1.5}, "max_tokens"),
        ({**HELLO, "max_completion_tokens": True}, "max_completion_tokens"),
        ({**HELLO, "temperature": -0.1}, "temperature"),
        ({**HELLO, "temperature": 1e400}, "temperature"),
        ({**HELLO, "temperature": float("nan")}, "temperature"),
        ({**HELLO, "top_p": 1.1}, "top_p"),
        ({**HELLO, "top_k": -2}, "top_k"),
        ({**HELLO, "min_p": "a"}, "min_p"),
        ({**HELLO, "seed": 2**64}, "seed"),
        ({**HELLO, "n": 0}, "n"),
        ({**HELLO, "n": 1000}, "n"),
        ({**HELLO, "n_draft": 17}, "n_draft"),
        ({**HELLO, "n_draft": "often"}, "n_draft"),
        ({**HELLO, "stop": [f"stop {i}" for i in range(1000)]}, "stop"),
        ({**HELLO, "stop": 5}, "stop"),
        ({**HELLO, "stream": "yes"}, "stream"),
        ({**HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
        ({**HELLO, "top_logprobs": 2}, "top_logprobs"),
        ({**HELLO, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({**HELLO, "frequency_penalty": 2.5}, "frequency_penalty"),
        ({**HELLO, "logit_bias": {"5": -101}}, "logit_bias"),
        ({**HELLO, "logit_bias": {"x": 1}}, "logit_bias"),
        ({**HELLO, "logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({**HELLO, "repeat_penalty": 0}, "repeat_penalty"),
        ({**HELLO, "dry_multiplier": -1}, "dry_multiplier"),
        ({**HELLO, "modalities": ["text", "audio"]}, "modalities"),
        ({**HELLO, "web_search_options": {}}, "web_search_options"),
        ({**HELLO, "function_call": {"name": "f"}}, "function_call"),
        ({**HELLO, "no_such_field": 1}, "no_such_field"),
        ({**HELLO, "model": 7}, "model"),
    ],
)
def test_invalid_chat_request(server: Server, body: dict[str, Any], param: str) -> None:
    with server.http() as http:
        response = http.post(
            CHAT, content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
    assert refused(response, 400)["param"] == param


@pytest.mark.parametrize(
    "fields",
    [
        {"verbosity": "low", "store": False, "metadata": {}, "user": "u", "cache_prompt": True},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "typical_p": 1},
        {"repeat_penalty": 1.0, "repetition_penalty": 1, "mirostat": 0, "modalities": ["text"]},
        {"prediction": None, "audio": None, "no_such_field": None, "stop": "", "top_k": -1},
        {"stop": ["", "never"], "max_completion_tokens": -1, "tools": [], "tool_choice": "auto"},
        {"stream_options": {"continuous_usage_stats": True}, "stream": True},
        {"chat_template_kwargs": {"preserve_thinking": True}},
    ],
)
def test_fields_that_do_not_change_the_answer(server: Server, fields: dict[str, Any]) -> None:
    with server.http() as http:
        response = http.post(CHAT, json={**HELLO, "max_tokens": 2, **fields})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "prompt", ["", [], [[]], [""], [5, "a"], [-1], [10**9], [[1], "a"], None, {"a": 1}, [None]]
)
def test_invalid_prompt(server: Server, prompt: Any) -> None:
    with server.http() as http:
        assert refused(http.post(TEXT, json={"prompt": prompt}), 400)["param"] == "prompt"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"messages": ',
        b'{"prompt": "\xff\xfe"}',
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"prompt": "a", "max_tokens": ' + b"9" * 10_000 + b"}",
    ],
)
def test_body_that_is_not_a_json_object(server: Server, content: bytes) -> None:
    with server.http() as http:
        headers = {"Content-Type": "application/json"}
        refused(http.post(TEXT, content=content, headers=headers), 400)
        refused(http.post(CHAT, content=content, headers=headers), 400)


def test_form_posts_are_rejected(server: Server) -> None:
    with server.http() as http:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            response = http.post(CHAT, content=json.dumps(HELLO), headers={"Content-Type": kind})
            assert "application/json" in refused(response, 400)["message"]


def test_prompt_longer_than_the_context(server: Server) -> None:
    with server.http() as http:
        text = refused(http.post(TEXT, json={"prompt": "hello " * 3000}), 400)
        ids = refused(http.post(TEXT, json={"prompt": [5] * 2048}), 400)
        turn = {"role": "user", "content": "hello " * 3000}
        chat = refused(http.post(CHAT, json={"messages": [turn]}), 400)
    assert text["code"] == ids["code"] == chat["code"] == "context_length_exceeded"
    assert "2048" in text["message"]


def test_body_of_ten_megabytes(server: Server) -> None:
    text = json.dumps({"prompt": "a" * 10_000_000}).encode()
    # The error arrives although the server stops reading while the client still sends.
    for _ in range(20):
        with server.http() as http:
            refused(http.post(TEXT, content=text), 413)
        with server.http() as http:
            refused(http.post(TEXT, content=(b"x" * 100_000 for _ in range(100))), 413)


def test_unknown_model(server: Server) -> None:
    with server.http() as http:
        for name in ("gpt-4", "", "../nano", "x" * 10_000, "\U0001f642"):
            refused(http.post(CHAT, json={**HELLO, "model": name}), 404)


def test_unknown_paths_and_methods(server: Server) -> None:
    with server.http() as http:
        refused(http.get("/v1/embeddings"), 404)
        refused(http.get(CHAT), 405)
        refused(http.delete("/v1/models/nano"), 405)


def test_bytes_that_are_not_http(server: Server) -> None:
    host, port = server.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 400")
    with server.http() as http:
        assert http.get("/health").json()["status"] == "ok"


def test_host_names_beyond_loopback_are_rejected(server: Server) -> None:
    with server.http() as http:
        for host in ("evil.example", "localhost.evil.example:80", "", "[::2]:1"):
            refused(http.get("/v1/models", headers={"Host": host}), 403)
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80", "[::1]"):
            assert http.get("/v1/models", headers={"Host": host}).status_code == 200
