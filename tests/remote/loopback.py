"""A server on loopback that replays scripted answers, chunk by chunk."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Chunk = dict[str, Any] | bytes | Callable[[], object]
"""An event, raw bytes, or a callback between two chunks."""


@dataclass
class Script:
    """Scripted behaviour of the server."""

    chunks: Sequence[Chunk] = ()
    owner: str = "someone"
    models: tuple[str, ...] = ("some-model",)
    key: str = ""
    pages: list[str] = field(default_factory=list)
    """`/metrics` pages, one per request; the last is repeated."""
    done: bool = True
    """Whether the stream ends normally; otherwise the connection is cut."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests, with their `path`."""
    properties: dict[str, Any] = field(default_factory=dict)
    """`/props`; a 404 if empty."""
    url: str = ""


def said(text: str, **more: object) -> dict[str, Any]:
    """Chunk with text of a chat answer."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def ended(reason: str = "stop") -> dict[str, Any]:
    """Chunk with the finish reason."""
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def usage(prompt: int, completion: int, **more: object) -> dict[str, Any]:
    """Chunk with the usage, after the answer."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"choices": [], "usage": counts, **more}


@contextmanager
def serving(script: Script) -> Iterator[Script]:
    """Serve the script at its `url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v1/models" and self._allowed():
                data = [{"id": name, "owned_by": script.owner} for name in script.models]
                self._send(200, json.dumps({"data": data}).encode())
            elif self.path == "/metrics" and script.pages:
                page = script.pages.pop(0) if len(script.pages) > 1 else script.pages[0]
                self._send(200, page.encode())
            elif self.path == "/props" and script.properties:
                self._send(200, json.dumps(script.properties).encode())
            elif self.path != "/v1/models":
                self._send(404, b"<html>nothing here</html>")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.asked.append(body | {"path": self.path})
            if not self._allowed():
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(ConnectionError):  # the client disconnected
                self._play()

        def _play(self) -> None:
            for chunk in script.chunks:
                if callable(chunk):
                    chunk()
                else:
                    self._write(_event(chunk) if isinstance(chunk, dict) else chunk)
            if script.done:
                self._write(b"data: [DONE]\n\n")
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.close_connection = True

        def _allowed(self) -> bool:
            allowed = not script.key or self.headers["Authorization"] == f"Bearer {script.key}"
            if not allowed:
                self._send(401, b'{"error": {"message": "Invalid API Key"}}')
            return allowed

        def _write(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"
