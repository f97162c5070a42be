"""Tools of real MCP servers, and of those that hang, die, flood or never start."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import sleep

import pytest

from localmtp.errors import LocalmtpError
from localmtp.mcp.config import ToolServer, read_config
from localmtp.mcp.host import HostedTool, ToolHost

SERVER = str(Path(__file__).with_name("server.py"))
STDIO = ToolServer("tests", sys.executable, (SERVER,), {"SECRET_OF_TEST": "42"})


@contextmanager
def hosting(*servers: ToolServer, builtin: bool = False) -> Iterator[ToolHost]:
    with closing(ToolHost(servers, builtin=builtin)) as host:
        host.wait(60)
        yield host


def tool(host: ToolHost, name: str) -> HostedTool:
    found = host.find(name)
    assert found, [each.function for each in host.tools]
    return found


def test_tools_of_a_program() -> None:
    with hosting(STDIO) as host:
        names = [function["function"]["name"] for function in host.functions()]
        assert set(names) >= {"add", "flood", "hang", "die", "fail"}
        schema = host.functions()[names.index("add")]["function"]["parameters"]
        assert schema["properties"]["a"]["type"] == "integer"
        assert host.call(tool(host, "add"), {"a": 2, "b": 3}) == "5"
        assert host.call(tool(host, "environment"), {"name": "SECRET_OF_TEST"}) == "42"
        assert host.call(tool(host, "fail"), {}).startswith("Error: ")
        assert host.call(tool(host, "add"), {"a": "x"}).startswith("Error")
        flooded = host.call(tool(host, "flood"), {"characters": 3_000_000})
        assert len(flooded) < 17_000 and "left out" in flooded
        polls = iter([False, False, True])
        assert "stopped" in host.call(tool(host, "hang"), {}, lambda: next(polls, True))
        assert host.call(tool(host, "add"), {"a": 1, "b": 1}) == "2"
        tool(host, "add").enabled = False
        assert host.find("add") is None and "add" not in str(host.functions())


def test_a_server_that_dies_is_a_line() -> None:
    with hosting(STDIO, builtin=True) as host:
        assert host.call(tool(host, "die"), {}).startswith("Error: tests failed")
        assert host.call(tool(host, "add"), {"a": 1, "b": 1}).startswith("Error")
        assert any("tests failed" in notice for notice in host.take_notices())
        assert host.call(tool(host, "calculator"), {"expression": "2*3"}) == "6"


def test_servers_that_do_not_start_are_lines() -> None:
    missing = ToolServer("missing", "/no/such/program")
    silent = ToolServer("crash", sys.executable, ("-c", "raise SystemExit('out of order')"))
    refused = ToolServer("refused", url="http://127.0.0.1:9/mcp")
    with hosting(missing, silent, refused) as host:
        assert host.tools == []
        for _ in range(100):
            notices = getattr(host, "seen", []) + host.take_notices()
            host.seen = notices  # type: ignore[attr-defined]
            if len(notices) == 3:
                break
            sleep(0.05)
        text = "\n".join(notices)
        for name in ("missing", "crash", "refused"):
            assert f"the MCP server {name} failed" in text
        assert "out of order" in text


def test_tools_over_http() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, SERVER, str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            sleep(0.05)
        config = ToolServer("remote", url=f"http://127.0.0.1:{port}/mcp")
        with hosting(config) as host:
            assert host.call(tool(host, "add"), {"a": 20, "b": 22}) == "42"
    finally:
        process.kill()
        process.wait()


def test_built_in_tools() -> None:
    with hosting(builtin=True) as host:
        assert host.call(tool(host, "calculator"), {"expression": "(2 + 3) * 4 ** 2"}) == "80"
        assert host.call(tool(host, "calculator"), {"expression": "1 / 3"}).startswith("0.33")
        for bad in ("9**9**9", "__import__('os')", "1/0", "(" * 300, "'a' * 9", "1e99*1e99"):
            assert host.call(tool(host, "calculator"), {"expression": bad}).startswith("Error")
        assert "20" in host.call(tool(host, "clock"), {})


def test_names_are_unique() -> None:
    calculator = ToolServer("tests", sys.executable, (SERVER,))
    again = ToolServer("again", sys.executable, (SERVER,))
    with hosting(calculator, again) as host:
        names = [each.function for each in host.tools]
        assert len(names) == len(set(names)) == 12


def test_configurations(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    servers = {
        "files": {"command": "npx", "args": ["-y", "server"], "env": {"A": "b"}, "type": "stdio"},
        "remote": {"url": "https://example.org/mcp", "headers": {"Authorization": "Bearer x"}},
        "off": {"command": "x", "disabled": True},
    }
    path.write_text(json.dumps({"mcpServers": servers}))
    files, remote = read_config(path)
    assert (files.command, files.args, files.env) == ("npx", ("-y", "server"), {"A": "b"})
    assert remote.url == "https://example.org/mcp" and remote.headers["Authorization"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"mcpServers": []}',
        '{"mcpServers": {"a": 1}}',
        '{"mcpServers": {"a": {}}}',
        '{"mcpServers": {"a": {"command": "x", "url": "http://x"}}}',
        '{"mcpServers": {"a": {"url": "file:///etc"}}}',
        '{"mcpServers": {"a": {"command": "x", "args": "y"}}}',
        '{"mcpServers": {"a": {"command": "x", "env": {"A": 1}}}}',
        "\udcff",
    ],
)
def test_invalid_configurations_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LocalmtpError, match=r"mcp\.json"):
        read_config(path)
