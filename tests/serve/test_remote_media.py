"""Images at addresses: fetched within limits, and never from inside this network."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest

from localmtp.serve.media.remote import Address, DownloadError, RemoteFiles, is_public
from tests.pairs import TINY, write_pair
from tests.projectors import write_unified_projector
from tests.serve.servers import serving

CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(1000)


class Files(ThreadingHTTPServer):
    """A server of files on loopback, which records what is requested."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []

    def address(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Files
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Logs nothing."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self._send(302, b"", {"Location": rest})
        elif kind == "missing":
            self._send(404, b"")
        elif kind == "gzip":
            self._send(200, gzip.compress(CONTENT), {"Content-Encoding": "gzip"})
        elif kind == "claims":
            self.send_response(200)
            self.send_header("Content-Length", "1000000000")
            self.end_headers()
        elif kind in ("endless", "slow"):
            self._endless(pause_s=0.2 if kind == "slow" else 0.0)
        else:
            self._send(200, CONTENT)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _endless(self, pause_s: float) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(10_000):
                self.wfile.write(bytes(1 if pause_s else 1 << 16))
                time.sleep(pause_s)
        except OSError:
            return


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def only_loopback_1(address: Address) -> bool:
    return str(address) == "127.0.0.1"


def fetched(url: str, *, most_bytes: int = 1 << 20, time_s: float = 10.0) -> bytes:
    async def fetch() -> bytes:
        files = RemoteFiles(only_loopback_1, most_bytes=most_bytes, time_s=time_s)
        return await files.fetch(url)

    return asyncio.run(fetch())


def test_a_file_is_fetched_under_the_name_of_its_host(files: Files) -> None:
    assert fetched(files.address("/image.png?a=b")) == CONTENT
    ((path, headers),) = files.requests
    assert path == "/image.png?a=b"
    assert headers["Host"] == f"127.0.0.1:{files.server_address[1]}"
    assert not {"Authorization", "Cookie"} & set(headers)


def test_redirects_are_followed_as_far_as_their_addresses_are_allowed(files: Files) -> None:
    assert fetched(files.address("/to//image.png")) == CONTENT
    assert fetched(files.address("/to//to//to//image.png")) == CONTENT
    with pytest.raises(DownloadError, match="redirects more than 3 times"):
        fetched(files.address("/to//to//to//to//image.png"))
    before = len(files.requests)
    for inside in (
        files.address("/image.png", "127.0.0.2"),
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
    ):
        with pytest.raises(DownloadError, match="no public address"):
            fetched(files.address(f"/to/{inside}"))
    with pytest.raises(DownloadError, match="not one of HTTP"):
        fetched(files.address("/to/file:///etc/passwd"))
    paths = [path for path, _ in files.requests[before:]]
    assert all(path.startswith("/to/") for path in paths)


def test_proxies_of_the_environment_are_not_used(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert fetched(files.address("/image.png")) == CONTENT


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/missing", "answers with status 404"),
        ("/gzip", "compressed, unasked"),
        ("/claims", "larger than 1 MiB"),
        ("/endless", "larger than 1 MiB"),
        ("/slow", "did not arrive within 1 seconds"),
    ],
)
def test_what_exceeds_a_limit_is_refused(files: Files, path: str, said: str) -> None:
    with pytest.raises(DownloadError, match=said):
        fetched(files.address(path), time_s=1.0 if path == "/slow" else 30.0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://user:secret@127.0.0.1/", "has credentials"),
        ("ftp://127.0.0.1/", "not one of HTTP"),
        ("http://", "not one of HTTP"),
        ("http://127.0.0.1:99999/", "not valid"),
        ("http://nowhere.invalid/", "cannot be resolved"),
        (f"http://{'a' * 70}.example/", "not valid|cannot be resolved"),
        ("http://127.0.0.1:9/", "cannot be reached"),
        ("http://[::1", "not valid"),
        ("https://xn--/", "not valid|cannot be resolved"),
    ],
)
def test_addresses_that_cannot_be_fetched_are_one_line(url: str, said: str) -> None:
    with pytest.raises(DownloadError, match=said) as refused:
        fetched(url)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2001:0:53aa:64c::", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_the_server_asks_no_address_inside_this_network(
    files: Files, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("remote")
    write_pair(TINY["dense"], folder / "tiny.gguf", folder / "mtp-tiny.gguf")
    write_unified_projector(folder / "mmproj-tiny.gguf")
    hosts = ("127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::ffff:127.0.0.1]")
    with (
        serving("--allow-remote-media", model=str(folder / "tiny.gguf")) as server,
        server.http() as http,
    ):
        for host in hosts:
            part = {"type": "image_url", "image_url": {"url": files.address("/a.png", host)}}
            body = {"messages": [{"role": "user", "content": [part]}]}
            refused = http.post("/v1/chat/completions", json=body)
            error = refused.json()["error"]
            assert refused.status_code == 400, host
            assert error["code"] == "failed_to_download_image"
            assert error["param"] == "messages"
        source = {"type": "url", "url": files.address("/a.png")}
        block = {"type": "image", "source": source}
        claude: dict[str, object] = {
            "messages": [{"role": "user", "content": [block]}],
            "max_tokens": 1,
        }
        message = http.post("/v1/messages", json=claude).json()["error"]["message"]
        assert "its server has no public address, and is not asked" in message
    assert files.requests == []
