"""What stands before the routes: who may ask, how much, and for how long."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmtp.serve.errors import APIError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_OPEN = "/health"
"""The one path that needs no key: for monitors, and it tells nothing about conversations."""

_BODY_S = 30.0
"""Longest wait for a body to arrive: loopback and any network deliver it in a fraction."""

_LINGER_S = 2.0
"""How long what comes after a refusal is read and dropped: closing a connection with unread bytes
resets it, and a reset can overtake the refusal on its way to the client (RFC 9112, section 9.6)."""


class AccessGuard:
    """Lets in who knows the key; without a key, who speaks to a loopback name.

    A web page can make a browser talk to this machine under a name of its own (DNS rebinding);
    such a request carries that name in its Host header.

    Args:
        app: what is guarded.
        key: None: no key is needed.
    """

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
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
            return APIError(403, f"{host!r} is not this machine; serve with --api-key to allow it")
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Header bytes are read as Latin-1; this gives them back.
        known = secrets.compare_digest(given.strip().encode("latin-1"), self._key.encode())
        if scope["path"] == _OPEN or (scheme.lower() == "bearer" and known):
            return None
        return APIError(
            401,
            "the API key is missing or wrong",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


class BodyGuard:
    """Reads a body whole before the routes see the request, within limits.

    Args:
        app: what is guarded.
        most: bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 408 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(_BODY_S):
                body = await self._read(scope, receive)
        except TimeoutError:
            error = APIError(408, f"the body did not arrive within {_BODY_S:.0f} seconds")
            await refuse(error, scope, receive, send)
        except APIError as error:
            await refuse(error, scope, receive, send)
        else:
            if body is not None:
                await self._app(scope, _replaying(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None when the client went away before it was complete."""
        too_long = APIError(413, f"the body is longer than {self._most} bytes")
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            raise too_long
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._most:
                raise too_long
            if not message.get("more_body"):
                return bytes(body)


async def refuse(error: APIError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error and close the connection once the rest of the body is dropped."""

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
    await error.response()(scope, receive, send_then_drop)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body once and then what comes after it."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
