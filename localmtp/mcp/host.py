"""Runs tools for the chat: those of MCP servers, and the built-in ones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from localmtp.errors import LocalmtpError
from localmtp.mcp.builtin import BUILTIN
from localmtp.mcp.config import ToolServer
from localmtp.unicode import replace_surrogates

if TYPE_CHECKING:
    from localmtp.mcp.connection import Connection

BUILTIN_SERVER = "builtin"

CALL_S = 120.0
"""Time for a call; a server that hangs costs no more."""

_POLL_S = 0.1
_CLOSE_S = 3.0

_LONGEST = 16_000
"""Characters of a result that the model reads: a few thousand tokens."""

_NAME = re.compile(r"[^\w.-]")


@dataclass(slots=True)
class HostedTool:
    """A tool that the model may call."""

    server: str
    name: str
    """Name on its server."""
    function: str
    """Name for the model: unique among all tools."""
    description: str
    schema: Mapping[str, Any]
    enabled: bool = True


@dataclass(slots=True)
class _Running:
    """The event loop of the connections."""

    loop: asyncio.AbstractEventLoop
    thread: Thread
    connections: dict[str, Connection]
    closing: asyncio.Event


class ToolHost:
    """Tools of several servers. Methods may be called from any thread; `call` blocks.

    Args:
        servers: to connect to, in the background.
        builtin: whether to offer the built-in tools.

    Raises:
        LocalmtpError: the `mcp` package is missing.
    """

    def __init__(self, servers: Sequence[ToolServer], *, builtin: bool = False) -> None:
        self.tools: list[HostedTool] = []
        self._notices: list[str] = []
        if builtin:
            for tool in BUILTIN:
                self._add(BUILTIN_SERVER, tool.name, tool.description, tool.schema)
        self._running = self._started(servers) if servers else None

    def functions(self) -> list[dict[str, Any]]:
        """Returns the enabled tools as chat templates expect them."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.function,
                    "description": tool.description,
                    "parameters": dict(tool.schema),
                },
            }
            for tool in self.tools
            if tool.enabled
        ]

    def find(self, function: str) -> HostedTool | None:
        """Returns the enabled tool that the model calls by this name."""
        return next((t for t in self.tools if t.enabled and t.function == function), None)

    def take_notices(self) -> list[str]:
        """Removes and returns lines about servers that failed."""
        notices, self._notices = self._notices, []
        return notices

    def wait(self, timeout_s: float) -> None:
        """Waits until all servers are connected or have failed."""
        if self._running:
            ready = [each.ready.wait() for each in self._running.connections.values()]

            async def all_ready() -> None:
                await asyncio.wait_for(asyncio.gather(*ready), timeout_s)

            asyncio.run_coroutine_threadsafe(all_ready(), self._running.loop).result()

    def call(
        self,
        tool: HostedTool,
        arguments: Mapping[str, Any],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str:
        """Runs a tool; returns its result, or what went wrong, as text of bounded length.

        Args:
            tool: to run.
            arguments: from the model.
            cancelled: called now and then; True gives the call up.
        """
        if tool.server == BUILTIN_SERVER:
            run = next(each.run for each in BUILTIN if each.name == tool.name)
            try:
                return run(arguments)
            except ValueError as error:
                return f"Error: {error}"
        assert self._running is not None
        connection = self._running.connections[tool.server]
        future = asyncio.run_coroutine_threadsafe(
            connection.call(tool.name, arguments), self._running.loop
        )
        return bounded(replace_surrogates(self._result(tool, future, cancelled)))

    def close(self) -> None:
        """Ends all servers; those that do not end are abandoned."""
        if running := self._running:
            for connection in running.connections.values():
                running.loop.call_soon_threadsafe(connection.close)
            running.loop.call_soon_threadsafe(running.closing.set)
            running.thread.join(_CLOSE_S)

    def _result(self, tool: HostedTool, future: Future[str], cancelled: Callable[[], bool]) -> str:
        began = monotonic()
        while True:
            try:
                return future.result(_POLL_S)
            except TimeoutError:
                if cancelled():
                    future.cancel()
                    return "Error: the user stopped the call"
                if monotonic() - began > CALL_S:
                    future.cancel()
                    self._notices.append(f"{tool.server} did not answer within {CALL_S:.0f} s")
                    return f"Error: {tool.server} did not answer within {CALL_S:.0f} s"
            except (ConnectionError, CancelledError) as error:
                self._notices.append(f"{tool.server} failed: {error}")
                return f"Error: {tool.server} failed: {error}"

    def _started(self, servers: Sequence[ToolServer]) -> _Running:
        try:
            from localmtp.mcp.connection import Connection
        except ModuleNotFoundError as error:
            raise LocalmtpError(
                f"MCP servers need {error.name}, which is not installed",
                hint="install it with `pip install 'localmtp[mcp]'`",
            ) from error
        loop = asyncio.new_event_loop()
        connections = {server.name: Connection(server) for server in servers}

        closing = asyncio.Event()

        async def run() -> None:
            await asyncio.gather(
                closing.wait(), *(self._follow(each) for each in connections.values())
            )

        def work() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run())

        thread = Thread(target=work, name="mcp", daemon=True)
        thread.start()
        return _Running(loop, thread, connections, closing)

    async def _follow(self, connection: Connection) -> None:
        """Runs a connection, and adds its tools once it works."""
        name = connection.config.name
        running = asyncio.ensure_future(connection.run())
        await connection.ready.wait()
        for tool in connection.tools if not connection.error else ():
            self._add(name, tool.name, tool.description, tool.schema)
        await running
        if connection.error:
            self._notices.append(f"the MCP server {name} failed: {connection.error}")

    def _add(self, server: str, name: str, description: str, schema: Mapping[str, Any]) -> None:
        function = _NAME.sub("_", name)
        if any(tool.function == function for tool in self.tools):
            function = _NAME.sub("_", f"{server}_{name}")
        self.tools.append(HostedTool(server, name, function, description, schema))


def bounded(text: str) -> str:
    """Returns a result without its middle, if it is long."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[… {left_out:,} characters left out …]\n{text[-half:]}"
