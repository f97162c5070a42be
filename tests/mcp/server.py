"""An MCP server for tests, on standard input and output or over HTTP."""

from __future__ import annotations

import os
import sys
import time

from mcp.server import MCPServer

server = MCPServer("tests")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)


@server.tool()
def environment(name: str) -> str:
    """Returns a variable of the environment."""
    return os.environ.get(name, "")


@server.tool()
def flood(characters: int) -> str:
    """Returns a long text."""
    return "x" * characters


@server.tool()
def hang() -> str:
    """Does not return."""
    time.sleep(1000)
    return ""


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(3)


@server.tool()
def fail() -> str:
    """Raises an error."""
    raise ValueError("no such thing")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
