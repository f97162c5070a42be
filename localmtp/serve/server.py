"""The HTTP server: one process, one event loop, one model thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from localmtp.engine.pair import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.models import ModelFiles
from localmtp.serve.app import Access, create_app
from localmtp.serve.generation.model import ServedModel
from localmtp.serve.generation.worker import Worker
from localmtp.serve.media.remote import RemoteFiles
from localmtp.serve.media.sources import MediaReader
from localmtp.serve.metrics import Metrics
from localmtp.serve.service import Service
from localmtp.session import Choices

_GRACE_S = 5
"""Seconds that running requests may continue after the first signal; a second Ctrl-C cuts them
immediately."""

_ERROR_S = 3
"""Seconds to send errors to clients that were cut off, before their connections are closed."""

_CONNECTIONS = 1000
"""Maximum number of open connections; below the usual limit of 1,024 files."""

_HEADERS_S = 5
"""Timeout in seconds for the headers of the first request of a connection."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of load."""

    queue: int
    """Maximum number of waiting requests."""
    time_s: float
    """Maximum generation time per request, in seconds."""


def serve(
    files: ModelFiles,
    choices: Choices,
    options: LoadOptions,
    *,
    address: tuple[str, int],
    access: Access,
    limits: ServerLimits,
    allow_remote_media: bool = False,
    ready: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Load a pair and serve it until a signal arrives.

    Args:
        files: target and drafter.
        choices: defaults for fields that requests leave out.
        options: how to load the pair.
        address: host and port; port 0 selects a free one.
        access: access control.
        limits: limits of load.
        allow_remote_media: fetch images and sounds from addresses in requests.
        ready: called with the base URL once requests are accepted.
        warn: called with advice about the model.

    Raises:
        LocalmtpError: the address cannot be bound, or the pair cannot be loaded.
    """
    listener = _listen(*address)
    metrics = Metrics()
    model = ServedModel(files, choices, options, metrics)
    if model.hint:
        warn(model.hint)
    worker = Worker(model, metrics, queue=limits.queue, time_limit=limits.time_s)
    remote = RemoteFiles() if allow_remote_media else None
    media = MediaReader(model.media, model.why_no_media, model.context_size, remote)
    service = Service(model, worker, metrics, media)
    app = create_app(service, access)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S + _ERROR_S,
    )
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    try:
        _Server(config, worker, lambda: ready(f"http://{name}:{port}/v1")).run([listener])
    finally:
        service.close()


class _Protocol(H11Protocol):
    """One HTTP connection; closed if its first request does not start in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout."""
        super().connection_made(transport)
        self.loop.call_later(_HEADERS_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None:
            self.transport.close()


class _Server(uvicorn.Server):
    """Reports when it accepts requests, and rejects waiting requests on shutdown."""

    def __init__(self, config: uvicorn.Config, worker: Worker, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._worker = worker
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Respond to waiting requests with 503; let running ones finish within the grace period."""
        self._worker.drain()
        asyncio.get_running_loop().call_later(_GRACE_S, self._worker.cut)
        # uvicorn would log requests that a second signal cuts as errors.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """Bind before loading: a large model takes minutes."""
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there it would share the port with whoever has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        raise LocalmtpError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another port with `--port 8081`, or any free one with `--port 0`",
        ) from error
    return listener
