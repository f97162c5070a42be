"""Cached files that are damaged, and answers that do not come from the hub."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.models.conftest import Pair, Program

REPO = "someone/gemma-4-tiny-GGUF"
RUN = ("run", REPO, "hi", "--max-tokens", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def published(hub: Hub, pair: Pair) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})


def cached(program: Program, name: str) -> Path:
    return next(program.cache.rglob(name)).resolve()


@pytest.mark.parametrize("name", ["tiny-Q8_0.gguf", "mtp-tiny.gguf"])
@pytest.mark.parametrize("size", [0, 5000, -1])
def test_a_truncated_blob_is_downloaded_again(program: Program, name: str, size: int) -> None:
    assert program("pull", REPO).returncode == 0
    blob = cached(program, name)
    whole = blob.read_bytes()
    os.truncate(blob, size if size >= 0 else len(whole) - 1)
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert blob.read_bytes() == whole
    assert program(*RUN).returncode == 0


def test_a_damaged_blob_is_found_by_verify(program: Program) -> None:
    program("pull", REPO)
    blob = cached(program, "tiny-Q8_0.gguf")
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1000] + bytes(1000))
    assert program("pull", REPO).returncode == 0
    assert blob.read_bytes() != whole
    assert program("pull", REPO, "--verify").returncode == 0
    assert blob.read_bytes() == whole


def test_a_truncated_start_is_replaced(program: Program) -> None:
    program("pull", REPO)
    blob = cached(program, "tiny-Q8_0.gguf")
    whole = blob.read_bytes()
    blob.write_bytes(bytes(len(whole) // 2))
    assert program("pull", REPO).returncode == 0
    assert blob.read_bytes() == whole


def test_a_damaged_file_that_cannot_be_loaded_is_named(hub: Hub, program: Program) -> None:
    program("pull", REPO)
    blob = cached(program, "tiny-Q8_0.gguf")
    data = bytearray(blob.read_bytes())
    data[data.index(b"blk.0.attn_q.weight")] = ord("x")
    blob.write_bytes(data)
    hub.stop()
    done = program(*RUN)
    assert done.returncode == 1
    message, hint = done.stderr.splitlines()
    assert "tiny-Q8_0.gguf is damaged: its hash is not that of the hub" in message
    assert hint == f"hint: `localmtp pull {REPO} --verify` downloads it again"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"../../etc", None])
def test_a_damaged_reference_does_no_harm(program: Program, content: bytes | None) -> None:
    program("pull", REPO)
    main = next(program.cache.rglob("refs/main"))
    main.unlink()
    if content is None:
        main.mkdir()
    else:
        main.write_bytes(content)
    assert program(*RUN).returncode == 0
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr


class Portal(BaseHTTPRequestHandler):
    """A gateway that sends a login page for everything."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        page = b"<html><title>Sign in</title></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def portal() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Portal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("command", ["pull", "show"])
def test_a_login_page_is_not_the_hub(program: Program, portal: str, command: str) -> None:
    done = program(command, "someone/model-GGUF:Q8_0", HF_ENDPOINT=portal)
    assert done.returncode == 1
    message, _hint = done.stderr.splitlines()
    assert message == f"error: {portal} does not respond as the Hugging Face hub does"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks://127.0.0.1:1/", "the proxy in ALL_PROXY cannot be used: `socks` is not `http`"),
        ("socks5://127.0.0.1:1", "the proxy in ALL_PROXY is a SOCKS proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(program: Program, value: str, words: str) -> None:
    done = program("pull", REPO, ALL_PROXY=value, HF_ENDPOINT="http://hub.invalid")
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[0]


def test_a_hub_on_loopback_is_not_reached_through_a_proxy(program: Program) -> None:
    proxies = {"ALL_PROXY": "socks://127.0.0.1:1/", "HTTP_PROXY": "http://127.0.0.1:1"}
    pulled = program("pull", REPO, **proxies, NO_PROXY="")
    assert pulled.returncode == 0, pulled.stderr


def test_a_server_on_loopback_is_not_reached_through_a_proxy(program: Program) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxies = {"ALL_PROXY": "socks://127.0.0.1:1/", "HTTP_PROXY": "http://127.0.0.1:1"}
    for host in ("127.0.0.1", "localhost"):
        done = program("run", "--server", f"http://{host}:{port}", "hi", **proxies)
        assert done.returncode == 1
        assert f"cannot connect to http://{host}:{port}" in done.stderr
    done = program("run", "--server", "http://server.invalid", "hi", **proxies)
    assert "the proxy in ALL_PROXY cannot be used" in done.stderr.splitlines()[0]
