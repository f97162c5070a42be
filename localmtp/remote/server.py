"""One OpenAI-compatible server over HTTP: its models, its answers as they come, its metrics."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from localmtp.errors import LocalmtpError
from localmtp.remote.errors import KEY_HINT, LostError, broken, refused

_CONNECT_S = 10.0
_LONGEST_SILENCE_S = 600.0
"""Between two pieces of an answer, or before the first: a long prompt on a slow machine."""

_METRICS_S = 5.0
"""Statistics are not worth a longer wait."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server offers."""

    id: str
    engine: str
    """Who serves it, as `owned_by` says: `llamacpp`, `vllm`, `localmtp` …"""
    context_size: int
    """In tokens; 0 where the server does not say."""


class Server:
    """A server of OpenAI's HTTP API.

    Args:
        url: with or without `/v1` at its end; http where no scheme is given.
        api_key: sent as a bearer token; empty for none.

    Raises:
        LocalmtpError: it is not a URL, or the key cannot be sent.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        whole = url if "://" in url else f"http://{url}"
        self.url = whole.rstrip("/").removesuffix("/v1")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise LocalmtpError(f"{url!r} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise LocalmtpError(f"{url!r} is not a URL", hint="like http://127.0.0.1:8080")
        if not (api_key.isascii() and api_key.isprintable()):
            raise LocalmtpError("the API key has characters that cannot be sent", hint=KEY_HINT)
        self.host = parsed.netloc.decode()
        self._socket: socket.socket | None = None
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(_CONNECT_S, read=_LONGEST_SILENCE_S),
        )

    def models(self) -> list[ServedModel]:
        """What it offers.

        Raises:
            LocalmtpError: nothing answers, the key is refused, or it is not such a server.
        """
        response = self._get("/v1/models", _LONGEST_SILENCE_S)
        if response.status_code == 404:
            raise LocalmtpError(
                f"{self.url} is not an OpenAI-compatible server: it has no /v1/models",
                hint="give the address that comes before /v1",
            )
        if response.is_error:
            raise refused(response)
        try:
            return [_served(model) for model in response.json()["data"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalmtpError(
                f"{self.url} is not an OpenAI-compatible server: /v1/models lists no models"
            ) from error

    def stream(self, path: str, body: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Send a request and yield the chunks of its answer as they come.

        Args:
            path: like `/v1/chat/completions`.
            body: with `stream` set.

        Raises:
            LocalmtpError: it was refused, or is not answered with a stream.
            LostError: the connection ended before the answer did.
        """
        url, watch = self.url + path, {"trace": self._watch}
        try:
            with self._client.stream("POST", url, json=body, extensions=watch) as response:
                if response.is_error:
                    response.read()
                    raise refused(response)
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    raise LocalmtpError(f"{url} does not stream its answers")
                yield from _events(response.iter_bytes(), url)
        except httpx.RequestError as error:
            raise broken(error, self.url) from error

    def metrics(self) -> str:
        """Its Prometheus page; empty where it has none."""
        with suppress(LocalmtpError):
            response = self._get("/metrics", _METRICS_S)
            if response.is_success:
                return response.text
        return ""

    def interrupt(self) -> None:
        """End the running answer; any thread.

        Whoever reads wakes up at once, also while the server is still busy with the prompt; and
        the server sees that nobody listens any more.
        """
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, longest: float) -> httpx.Response:
        timeout = httpx.Timeout(_CONNECT_S, read=longest)
        try:
            return self._client.get(
                self.url + path, timeout=timeout, extensions={"trace": self._watch}
            )
        except httpx.RequestError as error:
            raise broken(error, self.url) from error

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the socket in sight; told by httpcore what it does (httpx's trace extension)."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")


def _served(model: Mapping[str, Any]) -> ServedModel:
    meta = model.get("meta") or {}
    context = model.get("max_model_len") or model.get("context_length") or meta.get("n_ctx") or 0
    return ServedModel(str(model["id"]), str(model.get("owned_by", "")), int(context))


def _events(received: Iterable[bytes], url: str) -> Iterator[dict[str, Any]]:
    """The data of server-sent events, up to `[DONE]`.

    Lines end at newlines alone: httpx's own splitting also breaks at U+2028 and the like, which
    stand unescaped inside JSON strings.
    """
    rest = b""
    for chunk in received:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.partition(b":")
            if field != b"data":
                continue
            if value.strip() == b"[DONE]":
                return
            yield _parsed(value, url)
    raise LostError(f"{url} ended before the answer did")


def _parsed(value: bytes, url: str) -> dict[str, Any]:
    try:
        chunk = json.loads(value)
    except ValueError as error:
        raise LostError(f"{url} streams what is not JSON: {value[:60]!r}") from error
    if not isinstance(chunk, dict):
        raise LostError(f"{url} streams what is not an answer: {value[:60]!r}")
    if failure := chunk.get("error"):
        said = failure.get("message", failure) if isinstance(failure, dict) else failure
        raise LostError(f"{url} failed: {said}")
    return chunk
