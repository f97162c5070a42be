"""A Hugging Face hub on loopback, for the real client with `HF_ENDPOINT`.

Serves repositories from memory as the hub does: metadata and listings under `/api`, files under
`resolve` through a redirect, ETags, ranges, tokens, and injected faults. `tests.uploads` adds the
creation of repositories and uploads.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.uploads import Store, Uploads

_CHUNK = 1 << 16


@dataclass
class Repository:
    """A published repository at one revision."""

    files: dict[str, bytes]
    needs_token: str = ""
    """Token that grants access; empty for a public repository."""
    gated: bool = False

    @property
    def revision(self) -> str:
        """Commit hash, derived from the content."""
        seed = b"".join(name.encode() + data for name, data in sorted(self.files.items()))
        return hashlib.sha1(seed).hexdigest()


@dataclass
class Faults:
    """Injected faults; counts are decremented as they occur."""

    statuses: list[int] = field(default_factory=list)
    """Statuses of the next responses, in order; 0 answers normally."""
    retry_after: str = ""
    cuts: list[int] = field(default_factory=list)
    """Lengths in bytes at which the next downloads are cut off."""
    damaged: int = 0
    """Number of downloads with one corrupted byte."""
    claimed_size: int = 0
    """Size that listings report for every file; 0 reports the true one."""
    listing: bytes = b""
    """Body of every listing; empty for the true one."""
    ignores_ranges: bool = False
    bytes_per_second: float = 0.0
    """Bandwidth of downloads; 0 is unlimited."""
    stalls: int = 0
    """Number of downloads that stall in the middle with the connection open."""
    uploads: list[int] = field(default_factory=list)
    """Statuses of the next content uploads, in order; 0 answers normally."""


@dataclass(frozen=True)
class Request:
    """A received request."""

    method: str
    path: str
    range: str


class Hub:
    """The server; `repositories` and `faults` may be changed while it runs."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults = Faults()
        self.requests: list[Request] = []
        self.store = Store()
        self.sent = 0
        """Bytes of file content sent so far."""
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        # As on the hub, content is on another host, which must not receive the token.
        self.content_endpoint = f"http://localhost:{port}"

    def publish(self, repo: str, files: Mapping[str, bytes]) -> Repository:
        """Publishes a repository, replacing one of the same name."""
        self.repositories[repo] = Repository(dict(files))
        return self.repositories[repo]

    def downloads(self) -> list[Request]:
        """Returns the requests for file content."""
        return [r for r in self.requests if r.method == "GET" and r.path.startswith("/cdn/")]

    @contextmanager
    def running(self) -> Iterator[Hub]:
        """Serves requests inside the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Refuses connections from now on. Idempotent."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that disconnect, which tests do on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(Uploads, BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Logs nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.hub
        with hub.lock:
            hub.requests.append(Request(self.command, path, self.headers.get("Range", "")))
            status = hub.faults.statuses.pop(0) if hub.faults.statuses else 0
        if status:
            extra = {"Retry-After": hub.faults.retry_after} if hub.faults.retry_after else {}
            self._error(status, "", extra)
        elif self.command in ("POST", "PUT"):
            self.take(path)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._info(match[1])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+/?", path):
            self._tree(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[3])
        elif self.headers.get("Authorization") and path.startswith("/cdn/"):
            self._error(400, "")
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._content(self.hub.repositories[match[1]].files[match[2]])
        else:
            self._error(404, "EntryNotFound")

    def _allowed(self, name: str) -> Repository | None:
        repo = self.hub.repositories.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or (repo.needs_token and not repo.gated and token != repo.needs_token):
            self._error(401 if not token else 404, "RepoNotFound")
        elif repo.gated and token != repo.needs_token:
            self._error(401 if not token else 403, "GatedRepo")
        else:
            return repo
        return None

    def _info(self, name: str) -> None:
        repo = self.hub.repositories.get(name)
        # The hub lists the files of a gated repository to everyone.
        if repo is None or not repo.gated:
            repo = self._allowed(name)
        if repo is not None and self.hub.faults.listing:
            self._json_body(self.hub.faults.listing)
        elif repo is not None:
            claimed = self.hub.faults.claimed_size
            siblings = [
                {"rfilename": n, "size": claimed or len(d), "blobId": _git_id(d), "lfs": _lfs(d)}
                for n, d in repo.files.items()
            ]
            self._json(
                {
                    "id": name,
                    "modelId": name,
                    "sha": repo.revision,
                    "private": bool(repo.needs_token),
                    "gated": "manual" if repo.gated else False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "siblings": siblings,
                }
            )

    def _tree(self, name: str) -> None:
        if repo := self._allowed(name):
            self._json(
                [
                    {"type": "file", "path": n, "size": len(d), "oid": _git_id(d), "lfs": _lfs(d)}
                    for n, d in repo.files.items()
                ]
            )

    def _resolve(self, name: str, file: str) -> None:
        if repo := self._allowed(name):
            if file not in repo.files:
                self._error(404, "EntryNotFound")
                return
            data = repo.files[file]
            self.send_response(302)
            self.send_header("Location", f"{self.hub.content_endpoint}/cdn/{name}/{file}")
            self.send_header("X-Repo-Commit", repo.revision)
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _content(self, data: bytes) -> None:
        faults = self.hub.faults
        start, end = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not faults.ignores_ranges:
            start = int(asked[1])
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            if start >= len(data):
                self._error(416, "")
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self._send(data[start:end])

    def _send(self, body: bytes) -> None:
        hub, faults = self.hub, self.hub.faults
        with hub.lock:
            # Header probes are short; faults apply to downloads only.
            download = len(body) > 1 << 18
            cut = faults.cuts.pop(0) if faults.cuts and download else None
            stall = download and faults.stalls > 0
            faults.stalls -= stall
            if faults.damaged and download:
                faults.damaged -= 1
                body = body[:-1] + bytes([body[-1] ^ 1])
        if stall:
            cut = len(body) // 2
        for at in range(0, len(body) if cut is None else cut, _CHUNK):
            chunk = body[at : min(at + _CHUNK, len(body) if cut is None else cut)]
            self.wfile.write(chunk)
            with hub.lock:
                hub.sent += len(chunk)
            if faults.bytes_per_second:
                time.sleep(len(chunk) / faults.bytes_per_second)
        if stall:
            time.sleep(8)
        if cut is not None:
            self.close_connection = True

    def _json(self, value: object) -> None:
        self._json_body(json.dumps(value).encode())

    def _json_body(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _lfs(data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    return {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 130}


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
