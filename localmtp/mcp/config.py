"""Configurations of MCP servers: the JSON that other programs use too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localmtp.errors import LocalmtpError

_LARGEST = 1 << 20
_EXAMPLE = (
    '{"mcpServers": {"NAME": {"command": "PROGRAM", "args": []}}}, or {"url": "http://…"} for a '
    "server on the network"
)


@dataclass(frozen=True, slots=True)
class ToolServer:
    """One server: a program to start, or an address."""

    name: str
    command: str = ""
    """Program that speaks MCP on standard input and output; empty for an address."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str = ""
    """Address of a server that speaks streamable HTTP."""
    headers: Mapping[str, str] = field(default_factory=dict)


def read_config(path: Path) -> list[ToolServer]:
    """Reads the servers of a file, without those that are `disabled`.

    Raises:
        LocalmtpError: it cannot be read, or does not describe servers.
    """
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_LARGEST).decode())
    except OSError as error:
        raise LocalmtpError(
            f"cannot read {path}: {error.strerror}",
            hint="check the path; `--mcp builtin` needs no file",
        ) from error
    except (ValueError, RecursionError) as error:
        raise LocalmtpError(f"{path} is not JSON: {error}", hint=f"it holds {_EXAMPLE}") from error
    content = content if _is_object(content) else {}
    servers: Any = content.get("mcpServers", content.get("servers"))
    if not _is_object(servers):
        raise LocalmtpError(f"{path} has no `mcpServers`", hint=f"it holds {_EXAMPLE}")
    return [
        _server(path, str(name), entry)
        for name, entry in servers.items()
        if not (_is_object(entry) and entry.get("disabled"))
    ]


def _server(path: Path, name: str, entry: Any) -> ToolServer:
    if not _is_object(entry):
        raise _invalid(path, name, "it is no object")
    url = entry.get("url", entry.get("serverUrl", ""))
    command, args = entry.get("command", ""), entry.get("args", [])
    if not isinstance(url, str) or not isinstance(command, str) or bool(url) == bool(command):
        raise _invalid(path, name, "it needs either a `command` or a `url`")
    if url and not url.startswith(("http://", "https://")):
        raise _invalid(path, name, "its `url` is not http")
    if not (isinstance(args, list) and all(isinstance(arg, str) for arg in args)):
        raise _invalid(path, name, "its `args` are no list of strings")
    cwd = entry.get("cwd")
    if cwd is not None and not isinstance(cwd, str):
        raise _invalid(path, name, "its `cwd` is no string")
    env, headers = (_strings(path, name, entry, key) for key in ("env", "headers"))
    return ToolServer(name, command, tuple(args), env, cwd, url, headers)


def _strings(path: Path, name: str, entry: Mapping[str, Any], key: str) -> Mapping[str, str]:
    values = entry.get(key) or {}
    if not (_is_object(values) and all(isinstance(value, str) for value in values.values())):
        raise _invalid(path, name, f"its `{key}` is no object of strings")
    return dict(values)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _invalid(path: Path, name: str, reason: str) -> LocalmtpError:
    return LocalmtpError(f"{path}: the server `{name}` is invalid: {reason}", hint=_EXAMPLE)
