"""One connection to an MCP server, on an event loop of the host."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import (  # type: ignore[attr-defined]
    create_mcp_http_client,
    streamable_http_client,
)

from localmtp.mcp.config import ToolServer

START_S = 30.0
"""Time for a server to start and list its tools; those that are downloaded first take long."""

_MOST_TOOLS = 128
_MOST_PAGES = 16
_LONGEST_LINE = 200


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool of a server."""

    name: str
    description: str
    schema: Mapping[str, Any]


class Connection:
    """Connects to a server and calls its tools; all methods belong to one event loop.

    Args:
        config: of the server.
    """

    def __init__(self, config: ToolServer) -> None:
        self.config = config
        self.tools: list[RemoteTool] = []
        self.error = ""
        """Why there is no connection; empty while it starts and while it works."""
        self.ready = asyncio.Event()
        """Set once it works or has failed."""
        self._closing = asyncio.Event()
        self._client: Client | None = None

    async def run(self) -> None:
        """Keeps the connection open until `close`; sets `error` if it fails."""
        with TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(START_S):
                        self._client = await stack.enter_async_context(
                            await self._opened(stack, errors)
                        )
                        await self._list_tools(self._client)
                    self.ready.set()
                    await self._closing.wait()
            except TimeoutError:
                self.error = f"it did not start within {START_S:.0f} s"
            except BaseException as error:
                self.error = _last_line(errors) or _reason(error)
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
            finally:
                self._client = None
                self.ready.set()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Calls a tool; returns its result as text, errors of the tool included.

        Raises:
            ConnectionError: the server is gone.
        """
        if self._client is None:
            raise ConnectionError(self.error or "it is not connected")
        try:
            result = await self._client.call_tool(name, dict(arguments))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # as above
            raise ConnectionError(_reason(error)) from error
        texts = [_text(part) for part in result.content]
        if not texts and result.structured_content is not None:
            texts.append(json.dumps(result.structured_content, ensure_ascii=False))
        return ("Error: " if result.is_error else "") + "\n".join(texts)

    def close(self) -> None:
        """Ends the connection."""
        self._closing.set()

    async def _opened(self, stack: AsyncExitStack, errors: IO[str]) -> Client:
        config = self.config
        if config.url:
            http = create_mcp_http_client(headers=dict(config.headers))
            await stack.enter_async_context(http)
            return Client(streamable_http_client(config.url, http_client=http))
        parameters = StdioServerParameters(
            command=config.command,
            args=list(config.args),
            env={**os.environ, **config.env},
            cwd=config.cwd,
        )
        return Client(stdio_client(parameters, errlog=errors))  # type: ignore[arg-type]

    async def _list_tools(self, client: Client) -> None:
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools[: _MOST_TOOLS - len(self.tools)]:
                self.tools.append(RemoteTool(tool.name, tool.description or "", tool.input_schema))
            cursor = page.next_cursor
            if not cursor:
                return


def _text(part: Any) -> str:
    text = getattr(part, "text", None)
    if isinstance(text, str):
        return text
    resource = getattr(part, "resource", None)
    if isinstance(inner := getattr(resource, "text", None), str):
        return inner
    return f"[{getattr(part, 'type', 'content')} that cannot be shown]"


def _last_line(errors: IO[str]) -> str:
    """What the server wrote on standard error last."""
    try:
        errors.seek(0, os.SEEK_END)
        errors.seek(max(0, errors.tell() - 4096))
        lines = [line.strip() for line in errors.read().splitlines()]
    except (OSError, ValueError):
        return ""
    return next((line[:_LONGEST_LINE] for line in reversed(lines) if line), "")


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split())[:_LONGEST_LINE] or type(error).__name__
