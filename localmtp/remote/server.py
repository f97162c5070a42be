"""HTTP client for one OpenAI-compatible server: models, streamed answers, metrics."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx

from localmtp.errors import LocalmtpError
from localmtp.proxies import http_client
from localmtp.remote import json_input
from localmtp.remote.errors import KEY_HINT, LostError, connection_error, response_error

_CONNECT_S = 10.0
_READ_S = 600.0
"""Read timeout: the prefill of a long prompt on a slow machine."""

_MAX_BODY = 16 << 20
"""Maximum size in bytes of a response that is not streamed, and of a line of a stream."""

_MAX_ERROR = 64 << 10
"""Bytes of an error response that are read."""

_METRICS_S = 5.0
"""Timeout for the metrics page; statistics are not worth a longer wait."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model of a server."""

    id: str
    engine: str
    """`owned_by`: `llamacpp`, `vllm`, `localmtp` …"""
    context_size: int
    """In tokens; 0 if not reported."""
    media: tuple[str, ...] | None = None
    """Kinds of media that it reads, `image` and `audio`; None if not reported."""


class RemoteServer:
    """Client for a server of OpenAI's API.

    Args:
        url: with or without `/v1` at the end; the default scheme is http.
        api_key: sent as a bearer token; empty for none.

    Raises:
        LocalmtpError: the URL, the key or the proxy of the environment is invalid.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        whole = url if "://" in url else f"http://{url}"
        self.url = whole.rstrip("/").removesuffix("/v1")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise LocalmtpError(f"{url!r} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise LocalmtpError(f"{url!r} is not a URL", hint="for example `http://127.0.0.1:8080`")
        if not (api_key.isascii() and api_key.isprintable()):
            raise LocalmtpError("the API key has characters that HTTP cannot send", hint=KEY_HINT)
        self.host = parsed.netloc.decode()
        self._socket: socket.socket | None = None
        self._client = http_client(
            parsed.host,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(_CONNECT_S, read=_READ_S),
        )

    def models(self) -> list[RemoteModel]:
        """List the models.

        Raises:
            LocalmtpError: there is no response, the key is rejected, or it is no such server.
        """
        response = self._get("/v1/models", _READ_S)
        if response.status_code == 404:
            raise LocalmtpError(
                f"{self.url} is not an OpenAI-compatible server: it has no /v1/models",
                hint="pass the address in front of `/v1`",
            )
        if response.is_error:
            raise response_error(response)
        try:
            return [_model(model) for model in json_input.parsed(response.content)["data"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalmtpError(
                f"{self.url} is not an OpenAI-compatible server: /v1/models lists no models"
            ) from error

    def stream(self, path: str, body: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Send a request and yield the chunks of the answer as they arrive.

        Args:
            path: like `/v1/chat/completions`.
            body: request with `stream: true`.

        Raises:
            LocalmtpError: the request is rejected, or the response is not a stream.
            LostError: the connection failed during the answer.
        """
        url, watch = self.url + path, {"trace": self._watch}
        try:
            with self._client.stream("POST", url, json=body, extensions=watch) as response:
                if response.is_error:
                    raise response_error(_read_start(response))
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    raise LocalmtpError(f"{url} does not stream the answer")
                yield from _events(response.iter_bytes(), url)
        except httpx.RequestError as error:
            raise connection_error(error, self.url) from error

    def modalities(self) -> tuple[str, ...] | None:
        """Kinds of media that llama.cpp's server says it reads; None if it does not say."""
        with suppress(LocalmtpError, ValueError, KeyError, TypeError):
            found = self._properties()["modalities"]
            named = {"vision": "image", "audio": "audio"}
            return tuple(kind for name, kind in named.items() if found[name] is True)
        return None

    def knows_tools(self) -> bool | None:
        """Whether the chat template describes tools; None if the server does not say."""
        with suppress(LocalmtpError, ValueError, KeyError, TypeError):
            found = self._properties()["chat_template_caps"]["supports_tools"]
            return found if isinstance(found, bool) else None
        return None

    def _properties(self) -> Any:
        """Properties in the form of llama.cpp's server; empty if there are none."""
        response = self._get("/props", _METRICS_S)
        return json_input.parsed(response.content) if response.is_success else {}

    def metrics(self) -> str:
        """Prometheus page; empty if there is none."""
        with suppress(LocalmtpError):
            response = self._get("/metrics", _METRICS_S)
            if response.is_success:
                return response.text
        return ""

    def interrupt(self) -> None:
        """Abort the running answer; thread-safe.

        Closing the socket wakes the reader immediately, also during prefill, and the server
        notices the disconnect.
        """
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, timeout_s: float) -> httpx.Response:
        """Get a page of limited size; the timeout covers all of it, however slowly it arrives."""
        url, deadline = self.url + path, monotonic() + timeout_s
        timeout, watch = httpx.Timeout(_CONNECT_S, read=timeout_s), {"trace": self._watch}
        body = bytearray()
        try:
            with self._client.stream("GET", url, timeout=timeout, extensions=watch) as response:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > _MAX_BODY:
                        raise LocalmtpError(f"{url} sent more than {_MAX_BODY >> 20} MiB")
                    if monotonic() > deadline:
                        raise LocalmtpError(f"timeout: {url} took longer than {timeout_s:.0f} s")
        except httpx.RequestError as error:
            raise connection_error(error, self.url) from error
        return httpx.Response(
            response.status_code,
            headers={"content-type": response.headers.get("content-type", "")},
            content=bytes(body),
            request=response.request,
        )

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket, from httpx's trace extension."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")


def _model(model: Mapping[str, Any]) -> RemoteModel:
    meta = model.get("meta") or {}
    context = model.get("max_model_len") or model.get("context_length") or meta.get("n_ctx") or 0
    name = json_input.text(model["id"])
    owner = json_input.text(model.get("owned_by"))
    return RemoteModel(name, owner, json_input.count(context), _media(model))


def _media(model: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Kinds of media of a model, from its own fields or those of OpenRouter."""
    described = model.get("architecture")
    listed = model.get("input_modalities") or (
        described.get("input_modalities") if isinstance(described, dict) else None
    )
    if not isinstance(listed, list):
        return None
    return tuple(kind for kind in ("image", "audio") if kind in listed)


def _read_start(response: httpx.Response) -> httpx.Response:
    """Read the body of an error response, up to a limit."""
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > _MAX_ERROR:
            break
    return httpx.Response(
        response.status_code,
        headers={"content-type": response.headers.get("content-type", "")},
        content=bytes(body[:_MAX_ERROR]),
        request=response.request,
    )


def _events(received: Iterable[bytes], url: str) -> Iterator[dict[str, Any]]:
    """Data of server-sent events, up to `[DONE]`.

    Splits lines at newlines only: httpx also splits at U+2028 and similar characters, which JSON
    strings may contain unescaped.
    """
    for line in _lines(received, url):
        field, _, value = line.partition(b":")
        if field == b"error":  # llama.cpp in 2025
            yield _parsed(b'{"error":%b}' % value, url)
        if field != b"data":
            continue
        if value.strip() == b"[DONE]":
            return
        yield _parsed(value, url)
    raise LostError(f"{url} closed the connection during the answer")


def _lines(received: Iterable[bytes], url: str) -> Iterator[bytes]:
    """Complete lines; time and memory are linear in their length."""
    parts: list[bytes] = []
    size = 0
    for chunk in received:
        *lines, rest = chunk.split(b"\n")
        if lines:
            yield b"".join([*parts, lines[0]])
            yield from lines[1:]
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > _MAX_BODY:
            raise LostError(f"{url} sent a line of more than {_MAX_BODY >> 20} MiB")


def _parsed(value: bytes, url: str) -> dict[str, Any]:
    try:
        chunk = json_input.parsed(value)
    except ValueError as error:
        raise LostError(f"{url} streams invalid JSON: {value[:60]!r}") from error
    if not isinstance(chunk, dict):
        raise LostError(f"{url} streams JSON that is not an object: {value[:60]!r}")
    if failure := chunk.get("error"):
        message = failure.get("message", failure) if isinstance(failure, dict) else failure
        raise LostError(f"{url} failed: {str(message)[:1000]}")
    return chunk
