"""Middleware in front of the routes: access control and limits of request bodies."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmtp.serve.errors import APIError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_OPEN = "/health"
"""The only path without a key: for monitoring; it exposes nothing about conversations."""

_OLLAMA = "/api/"
"""Paths of Ollama's API, whose clients do not declare the type of their bodies."""

_BODY_S = 30.0
"""Timeout for a request body; any usable network needs a fraction of it."""

_SMALL = 1 << 20
"""Bytes of the largest body that is always accepted: most requests, whatever others send."""

_SLOWEST = 1 << 20
"""Bytes per second of a large body, which add to its timeout."""

_LINGER_S = 2.0
"""Seconds for which the rest of a body is read and discarded after an error: closing a connection
with unread bytes resets it, and the reset can overtake the response (RFC 9112, section 9.6)."""


class AccessGuard:
    """Requires the API key; without a key, a loopback name in the Host header.

    A web page can make a browser send requests to this machine under the page's own name (DNS
    rebinding); the Host header contains that name.

    Args:
        app: the application behind it.
        key: None if no key is required.
    """

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 401 or 403."""
        if scope["type"] == "http" and (error := self._refusal(scope)):
            await refuse(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> APIError | None:
        headers = Headers(scope=scope)
        if self._key is None:
            host = headers.get("host", "").rpartition("]")[0].lstrip("[")
            host = host or headers.get("host", "").partition(":")[0]
            if host.lower() in _LOOPBACK:
                return None
            return APIError(
                403,
                f"host {host!r} is not a loopback name; serve with `--api-key` to allow it",
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if "x-api-key" in headers:  # Anthropic's clients
            scheme, given = "bearer", headers["x-api-key"]
        # Starlette decodes header bytes as Latin-1; encoding restores them.
        known = secrets.compare_digest(given.strip().encode("latin-1"), self._key.encode())
        if scope["path"] == _OPEN or (scheme.lower() == "bearer" and known):
            return None
        return APIError(
            401,
            "the API key is missing or wrong",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


@dataclass(slots=True)
class _Reserved:
    """Memory reserved for a body."""

    size: int = 0


class BodyGuard:
    """Reads the whole body before the routes see the request, within limits of size and time.

    Args:
        app: the application behind it.
        most: maximum size in bytes.
        most_together: maximum size of all large bodies of running requests, in bytes.
    """

    def __init__(self, app: ASGIApp, most: int, most_together: int) -> None:
        self._app = app
        self._most, self._most_together = most, most_together
        self._held = 0
        """Bytes of all large bodies that are in memory, or announced."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 408, 413 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reserved = _Reserved()
        try:
            await self._pass_on(reserved, scope, receive, send)
        finally:
            self._reserve(reserved, 0)

    async def _pass_on(
        self, reserved: _Reserved, scope: Scope, receive: Receive, send: Send
    ) -> None:
        given = Headers(scope=scope).get("content-length", "0")
        length = int(given) if given.isdecimal() and len(given) < 20 else 0
        limit_s = _BODY_S + min(length, self._most) / _SLOWEST
        try:
            if length > self._most:
                raise self._too_long()
            self._reserve(reserved, length)
            async with asyncio.timeout(limit_s):
                body = await self._read(reserved, receive)
        except TimeoutError:
            error = APIError(408, f"the body did not arrive within {limit_s:.0f} seconds")
        except APIError as refusal:
            error = refusal
        else:
            if body is not None:
                await self._app(_as_json(scope), _replaying(body, receive), send)
            return
        # Before the rest of the body is read and discarded, which takes a while.
        self._reserve(reserved, 0)
        await refuse(error, scope, receive, send)

    async def _read(self, reserved: _Reserved, receive: Receive) -> bytearray | None:
        """The body; None if the client disconnected first."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._most:
                raise self._too_long()
            self._reserve(reserved, max(reserved.size, len(body)))
            if not message.get("more_body"):
                return body

    def _reserve(self, reserved: _Reserved, size: int) -> None:
        """Reserve memory for a body; small ones are not counted.

        Raises:
            APIError: the bodies of other requests take it.
        """
        size = size if size > _SMALL else 0
        held = self._held + size - reserved.size
        if held > max(self._most_together, self._held):
            busy = "too many large requests at the same time; try again"
            raise APIError(503, busy, headers={"Retry-After": "1"})
        self._held, reserved.size = held, size

    def _too_long(self) -> APIError:
        return APIError(413, f"the body is longer than {self._most} bytes")


async def refuse(error: APIError, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with an error and close the connection after discarding the rest of the body."""

    async def send_then_drop(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body"})

    error.headers["Connection"] = "close"
    await error.response(scope["path"])(scope, receive, send_then_drop)


def _as_json(scope: Scope) -> Scope:
    """Declares the body of a request to Ollama's API as JSON, as Ollama does.

    Not if a web page may have sent it: browsers name its origin in every POST to another one.
    """
    headers = Headers(scope=scope)
    if not scope["path"].startswith(_OLLAMA) or {"origin", "sec-fetch-site"} & set(headers):
        return scope
    others = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
    return {**scope, "headers": [*others, (b"content-type", b"application/json")]}


def _replaying(body: bytearray, receive: Receive) -> Receive:
    """A `receive` that returns the body first, then the messages after it."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        whole = bytes(body)
        body.clear()
        return {"type": "http.request", "body": whole, "more_body": False}

    return next_message
