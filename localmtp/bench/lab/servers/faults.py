"""Injects faults into a running `localmtp serve`, and counts the results.

python -m localmtp.bench.lab.servers.faults [--model nano] [-- FLAGS OF SERVE] > faults.md

During each fault, a witness repeats one greedy request: its answer must not change. After each
fault the server must be healthy and idle. The exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
_WITNESS = {
    "prompt": "1, 2, 3,",
    "max_tokens": 24,
    "temperature": 0,
    "n_draft": 0,  # passes of one shape, so that near-ties do not matter
}
_SLOW = {"prompt": "1, 2, 3,", "max_tokens": 1500, "n": 8, "stream": True, "logprobs": 5}
_CONNECTIONS = 200
_BYTES_PER_S = 1
_PATIENCE_S = 60


@dataclass
class ServerProcess:
    """A server process under test."""

    flags: Sequence[str]
    model: str
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, on the previous port if there was one."""
        command = [sys.executable, "-m", "localmtp", "serve", self.model, "--port", str(self.port)]
        self.process = subprocess.Popen([*command, *self.flags], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if not line.startswith("serving "):
            raise SystemExit(line + self.process.stderr.read())
        self.port = int(line.split()[3].removesuffix("/v1").rpartition(":")[2])

    def http(self) -> httpx.Client:
        """Return a new client."""
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, timeout=_PATIENCE_S, trust_env=False)

    def line(self, path: str, body: dict[str, Any]) -> socket.socket:
        """Send a request on a plain socket, and return the socket with nothing read."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        line = socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_S)
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        return line

    def running(self) -> float:
        """Return the number of running and waiting requests."""
        with self.http() as http:
            page = http.get("/metrics").text
        names = ("localmtp_requests_running ", "localmtp_requests_waiting ")
        return sum(float(row.split()[1]) for row in page.splitlines() if row.startswith(names))


@dataclass
class FaultResult:
    """Counts of one fault."""

    sent: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def expect(self, result: str, allowed: Sequence[str]) -> None:
        """Count a result, and check that it is allowed."""
        self.sent += 1
        self.seen[result] += 1
        if result not in allowed:
            self.wrong.append(f"{result} instead of {' or '.join(allowed)}")

    def reply(self, response: httpx.Response, *allowed: int) -> None:
        """Count a response; errors must have OpenAI's form."""
        self.expect(str(response.status_code), [str(status) for status in allowed])
        if response.status_code >= 400:
            error = response.json().get("error", {})
            if set(error) != {"message", "type", "param", "code"} or "\n" in error["message"]:
                self.wrong.append(f"not an error of OpenAI's form: {response.text[:100]}")


Fault = Callable[[ServerProcess, FaultResult], None]


def bodies(server: ServerProcess, outcome: FaultResult) -> None:
    """Malformed JSON, other JSON, invalid UTF-8, deep nesting."""
    contents = [b"", b"{", b"null", b"[]", b'"text"', b'{"messages": ', b"\x00" * 100]
    contents += [b'{"prompt": "\xff\xfe"}', b'{"prompt": "\xed\xa0\x80"}', b"[" * 100_000]
    contents += [b'{"prompt": "a", "max_tokens": ' + b"9" * 10_000 + b"}", b'{"a":' * 50_000]
    headers = {"Content-Type": "application/json"}
    with server.http() as http:
        for content in contents:
            for path in (TEXT, CHAT):
                outcome.reply(http.post(path, content=content, headers=headers), 400)


def values(server: ServerProcess, outcome: FaultResult) -> None:
    """Every field with a wrong type, a negative, a huge number, an unknown name."""
    fields: tuple[str, ...] = (
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
    )
    fields += ("seed", "n", "n_draft", "stop", "stream", "logprobs", "top_logprobs", "tools")
    fields += ("response_format", "tool_choice", "stream_options", "model", "no_such_field")
    wrong: list[Any] = [-1, 10**30, 1e308, "x" * 1000, [], {}, [[]], {"a": 1}, [None], "\ud800"]
    with server.http() as http:
        for name in fields:
            for value in wrong:
                content = json.dumps({**_HELLO, "max_tokens": 1, name: value})
                headers = {"Content-Type": "application/json"}
                reply = http.post(CHAT, content=content, headers=headers)
                unknown = name == "model" and isinstance(value, str)
                right = (name == "seed" and value == -1) or (
                    name in ("stop", "tools") and value == []
                )
                outcome.reply(reply, 404 if unknown else 200 if right else 400)


def models(server: ServerProcess, outcome: FaultResult) -> None:
    """Models that are not served."""
    with server.http() as http:
        for name in ("gpt-4", "", "../etc/passwd", "nano:Q4_0", "x" * 10_000):
            outcome.reply(http.post(CHAT, json={**_HELLO, "model": name, "max_tokens": 1}), 404)
            # The client takes dots out of paths by itself.
            escaped = name.replace("/", "%2F")
            if escaped:
                outcome.reply(http.get(f"/v1/models/{escaped}"), 404)


def prompts(server: ServerProcess, outcome: FaultResult) -> None:
    """Empty, beyond the context, and of 10 MB."""
    with server.http() as http:
        listed: list[Any] = ["", [], [[]], [""], None, [-1], [10**9], "hello " * 30_000]
        for prompt in listed:
            outcome.reply(http.post(TEXT, json={"prompt": prompt}), 400)
        outcome.reply(http.post(CHAT, json={"messages": []}), 400)
        turn = {"role": "user", "content": "a " * 60_000}
        outcome.reply(http.post(CHAT, json={"messages": [turn]}), 400)
    for body in ({"prompt": "a" * 10_000_000}, {"messages": [{**turn, "content": "a" * 10**7}]}):
        path = TEXT if "prompt" in body else CHAT
        with server.http() as http:
            outcome.reply(http.post(path, json=body), 413)
    with server.http() as http:  # without a length
        outcome.reply(http.post(TEXT, content=(b"x" * 100_000 for _ in range(100))), 413)


def stops(server: ServerProcess, outcome: FaultResult) -> None:
    """A thousand stop strings, and four long ones."""
    with server.http() as http:
        many = [f"stop {i}" for i in range(1000)]
        outcome.reply(http.post(CHAT, json={**_HELLO, "stop": many}), 400)
        outcome.reply(http.post(TEXT, json={"prompt": "1,", "stop": many}), 400)
        few = ["x" * 100_000] * 4
        outcome.reply(
            http.post(TEXT, json={"prompt": "1,", "stop": few, "max_tokens": 4}), 200, 400
        )


def schemas(server: ServerProcess, outcome: FaultResult) -> None:
    """Schemas that nothing satisfies, that refer to themselves or nowhere, that blow up."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    wide = {f"p{i}": {"type": "string"} for i in range(2000)}
    listed: list[dict[str, Any]] = [
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"enum": []},
        {"type": "nothing"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"type": "string", "pattern": "("},
        {"type": "string", "minLength": 10**9},
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array", "minItems": 10**7, "items": {"type": "string"}},
        {"type": "object", "properties": wide, "required": list(wide)},
        deep,
    ]
    with server.http() as http:
        for schema in listed:
            form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
            body = {**_HELLO, "response_format": form, "max_tokens": 16}
            # The last one can be satisfied.
            outcome.reply(http.post(CHAT, json=body), 200 if schema is deep else 400)


def unread(server: ServerProcess, outcome: FaultResult) -> None:
    """Clients that stop reading, or reset the connection, in the middle of a stream."""
    lines = [server.line(TEXT, _SLOW) for _ in range(4)]
    for line in lines[:2]:
        line.recv(10)
    time.sleep(2)
    for line in lines:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        line.close()
        outcome.expect("cut by the client", ["cut by the client"])


def slow(server: ServerProcess, outcome: FaultResult) -> None:
    """Clients that send one byte a second, their head or their body."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    starts = (b"", head[:60], head + b"Content-Length: 1000\r\n\r\n", b"\x16\x03\x01\x02")

    def send(start: bytes) -> str:
        with socket.create_connection(("127.0.0.1", server.port), timeout=_PATIENCE_S) as line:
            line.sendall(start)
            for _ in range(_PATIENCE_S * _BYTES_PER_S):
                try:
                    line.sendall(b"x")
                    line.settimeout(1 / _BYTES_PER_S)
                    said = line.recv(1000)
                except TimeoutError:
                    continue
                except OSError:
                    return "closed"
                return said[9:12].decode() if said else "closed"
        return "open for a minute"

    with ThreadPoolExecutor(len(starts)) as pool:
        for came in pool.map(send, starts):
            outcome.expect(came, ["closed", "400", "408"])


def many_connections(server: ServerProcess, outcome: FaultResult) -> None:
    """200 concurrent connections, half of them streams."""

    def ask(number: int) -> httpx.Response:
        with server.http() as http:
            return http.post(TEXT, json={**_WITNESS, "stream": number % 2 == 0})

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for reply in pool.map(ask, range(_CONNECTIONS)):
            outcome.reply(reply, 200, 429, 503)
    if not outcome.seen["200"]:
        outcome.wrong.append("no request was answered")


def vanished(server: ServerProcess, outcome: FaultResult) -> None:
    """Clients that disconnect immediately: their slots become free."""
    for number in range(50):
        with server.line(TEXT, {**_SLOW, "stream": number % 2 == 0}):
            outcome.expect("gone", ["gone"])


FAULTS: tuple[tuple[str, Fault], ...] = (
    ("bodies that are not JSON objects", bodies),
    ("fields of wrong type and size", values),
    ("models that are not served", models),
    ("prompts: empty, too long, 10 MB", prompts),
    ("a thousand stop strings", stops),
    ("schemas that cannot be satisfied", schemas),
    ("clients that stop reading", unread),
    ("clients that disconnect", vanished),
    ("one byte a second", slow),
    ("200 concurrent connections", many_connections),
)


@contextmanager
def witnessed(server: ServerProcess, expected: str, outcome: FaultResult) -> Iterator[Counter[str]]:
    """Repeat the witness's request during the block, and check its answers."""
    done, seen = threading.Event(), Counter[str]()

    def watch() -> None:
        with server.http() as http:
            while not done.is_set():
                reply = http.post(TEXT, json=_WITNESS)
                if reply.status_code in (429, 503):
                    seen["rejected"] += 1
                elif reply.status_code == 200 and _text(reply) == expected:
                    seen["right"] += 1
                else:
                    outcome.wrong.append(f"the witness got {reply.status_code} {reply.text[:80]}")
                done.wait(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def _text(reply: httpx.Response) -> str:
    return str(reply.json()["choices"][0]["text"])


def killed(server: ServerProcess, expected: str, times: int) -> FaultResult:
    """Kill the server during a stream, and start it on the same port."""
    outcome = FaultResult()
    for _ in range(times):
        line = server.line(TEXT, _SLOW)
        line.recv(1000)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        with suppress(OSError):
            while line.recv(1 << 16):
                pass
        server.start()
        with server.http() as http:
            right = _text(http.post(TEXT, json=_WITNESS)) == expected
        outcome.expect("restarted" if right else "restarted, wrong answer", ["restarted"])
    return outcome


def main() -> int:
    """Inject all faults; print the table on standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="flags of serve, after --")
    arguments = parser.parse_args()
    server = ServerProcess(["--threads", "1", *arguments.flags], arguments.model)
    server.start()
    wrong: list[str] = []
    print("| fault | sent | results | witness | wrong |\n| --- | ---: | --- | --- | ---: |")
    try:
        with server.http() as http:
            expected = _text(http.post(TEXT, json=_WITNESS))
        for name, fault in FAULTS:
            outcome = FaultResult()
            with witnessed(server, expected, outcome) as seen:
                fault(server, outcome)
            _check_idle(server, outcome)
            wrong += _print_row(name, outcome, seen)
        wrong += _print_row("kill -9 during a stream", killed(server, expected, 5), Counter())
        assert server.process is not None
        resident = psutil.Process(server.process.pid).memory_info().rss >> 20
        print(f"\nresident at the end: {resident} MiB", file=sys.stderr)
    finally:
        if server.process is not None:
            server.process.terminate()
            server.process.wait(timeout=_PATIENCE_S)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def _check_idle(server: ServerProcess, outcome: FaultResult) -> None:
    """Check that the server becomes idle within a minute."""
    for _ in range(10 * _PATIENCE_S):
        if server.running() == 0:
            return
        time.sleep(0.1)
    outcome.wrong.append("not idle after a minute")


def _print_row(name: str, outcome: FaultResult, seen: Counter[str]) -> list[str]:
    came, witness = (
        ", ".join(f"{count} × {what}" for what, count in sorted(counted.items()))
        for counted in (outcome.seen, seen)
    )
    print(f"| {name} | {outcome.sent} | {came} | {witness} | {len(outcome.wrong)} |", flush=True)
    return [f"{name}: {each}" for each in outcome.wrong]


if __name__ == "__main__":
    sys.exit(main())
