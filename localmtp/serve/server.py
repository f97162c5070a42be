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
from localmtp.serve.metrics import Metrics
from localmtp.serve.service import Service
from localmtp.session import Choices

_GRACE_S = 5
"""How long answers may go on after the first signal; a second Ctrl-C cuts them at once."""

_FAREWELL_S = 3
"""For telling the clients whose answers were cut; then their connections are closed."""

_CONNECTIONS = 1000
"""Open connections; below the usual limit of 1,024 files."""

_SILENCE_S = 5
"""How long a connection may take to send a request's headers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the server takes on."""

    queue: int
    """Requests that may wait."""
    time_s: float
    """Generation per request."""


def serve(
    files: ModelFiles,
    choices: Choices,
    options: LoadOptions,
    *,
    address: tuple[str, int],
    access: Access,
    limits: Limits,
    ready: Callable[[str], None],
) -> None:
    """Load a pair and serve it until a signal comes.

    Args:
        files: what to load.
        choices: for requests that do not choose themselves.
        options: how to load it.
        address: host and port; port 0 for any free one.
        access: who may use it.
        limits: see `Limits`.
        ready: called with the base URL once requests are accepted.

    Raises:
        LocalmtpError: the address cannot be bound, or the pair cannot be loaded.
    """
    listener = _listen(*address)
    metrics = Metrics()
    model = ServedModel(files, choices, options, metrics)
    worker = Worker(model, metrics, queue=limits.queue, time_limit=limits.time_s)
    app = create_app(Service(model, worker, metrics), access)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S + _FAREWELL_S,
    )
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    try:
        _Server(config, worker, lambda: ready(f"http://{name}:{port}/v1")).run([listener])
    finally:
        worker.close()
        model.close()


class _Protocol(H11Protocol):
    """HTTP on one connection, closed when its first request does not begin in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self.loop.call_later(_SILENCE_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()


class _Server(uvicorn.Server):
    """Says when it is up, and lets waiting requests go when it is told to stop."""

    def __init__(self, config: uvicorn.Config, worker: Worker, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._worker = worker
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept requests."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what waits with 503, let what runs end within the time of grace."""
        self._worker.drain()
        asyncio.get_running_loop().call_later(_GRACE_S, self._worker.cut)
        # What a second signal cuts is no error of the program: uvicorn would log it as one.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, before the minutes that a large model takes to load."""
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there it would share the port with whoever has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        raise LocalmtpError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="another port: --port 8081; or any free one: --port 0",
        ) from error
    return listener
