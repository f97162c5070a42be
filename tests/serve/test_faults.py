"""Clients that disconnect, stall or connect in large numbers, and shutdown."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil  # type: ignore[import-untyped]
import pytest

from tests.posix import needs_signals
from tests.serve.servers import Server, serving

COUNTING = "<|turn>user\nCount from 1 to 100.<turn|>\n<|turn>model\n"
LONG = {"prompt": COUNTING, "max_tokens": 1500, "temperature": 0, "n": 16}
"""Takes far longer than any test here waits."""


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("condition not met within 30 seconds")


def post(server: Server, body: dict[str, object]) -> socket.socket:
    """Send a request on a new connection without reading the response."""
    host, port = server.root.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)), timeout=30)
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return line


def arrived(server: Server) -> float:
    """Number of jobs that started or wait."""
    metrics = server.metrics()
    return metrics["localmtp_queue_seconds_count"] + metrics["localmtp_requests_waiting"]


@needs_signals
@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_frees_the_slot(server: Server, stream: bool) -> None:
    def finished() -> float:
        metrics = server.metrics()
        return sum(metrics.get(f"localmtp_answers_total{{{r}}}", 0) for r in ("stop", "length"))

    before = arrived(server), finished()
    lines = [post(server, {**LONG, "stream": stream}) for _ in range(6)]
    wait_until(lambda: arrived(server) >= before[0] + 6)
    for line in lines:
        line.close()
    wait_until(lambda: server.metrics()["localmtp_requests_waiting"] == 0)
    wait_until(lambda: server.metrics()["localmtp_requests_running"] == 0)
    assert finished() - before[1] < 6 * 16
    reply = httpx.post(f"{server.url}/completions", json={"prompt": "1, 2,"}, trust_env=False)
    assert reply.status_code == 200


def test_one_request_with_many_choices_delays_nobody(server: Server) -> None:
    crowd = post(server, {**LONG, "prompt": [COUNTING] * 16, "stream": True})
    assert crowd.recv(1)
    before = server.metrics()
    with server.http() as http:
        for _ in range(5):
            reply = http.post("/v1/completions", json={"prompt": "1, 2,", "max_tokens": 2})
            assert reply.status_code == 200
    after = server.metrics()
    crowd.close()
    gained = after["localmtp_answers_total{length}"] - before.get(
        "localmtp_answers_total{length}", 0
    )
    assert gained < 256


def test_patterns_are_bounded() -> None:
    def ask(pattern: str) -> httpx.Response:
        schema = {"type": "string", "pattern": pattern}
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
        turns = [{"role": "user", "content": "x"}]
        body = {"messages": turns, "max_tokens": 8, "response_format": form}
        with server.http() as http:
            return http.post("/v1/chat/completions", json=body)

    with serving("--time-limit", "5") as server, ThreadPoolExecutor(50) as pool:
        for reply in pool.map(ask, ["^a]$", "^x:}$"] * 25):
            assert reply.status_code == 200
        for pattern in ("^" + "a?" * 800 + "$", "^(a*)*$", "^(a{1,999}){1,999}$", "(?=a)b", "(("):
            reply = ask(pattern)
            assert reply.status_code == 400
            assert reply.json()["error"]["param"] == "response_format"
        with server.http() as http:
            assert http.get("/health").json()["status"] == "ok"


def test_client_that_does_not_read_blocks_nobody(server: Server) -> None:
    # More than the buffers of the connection hold.
    body = {"prompt": "1, 2,", "max_tokens": 300, "stream": True, "logprobs": 20, "n": 8}
    idle = post(server, body)
    with server.http() as http:
        assert http.post("/v1/completions", json={"prompt": "1, 2,"}).status_code == 200
    idle.close()
    wait_until(lambda: server.metrics()["localmtp_requests_running"] == 0)


def test_slow_sender_blocks_nobody_and_is_disconnected(server: Server) -> None:
    host, port = server.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        for byte in b"POST /v1/completions HTTP/1.1\r\nHost: loc":
            slow.sendall(bytes([byte]))
        with server.http() as http:
            assert http.post("/v1/completions", json={"prompt": "1, 2,"}).status_code == 200
        assert slow.recv(1) == b""


async def test_concurrent_responses_are_independent(server: Server) -> None:
    """Each of many concurrent requests gets the response that it gets alone."""
    prompts = [f"{n}, {n + 1}, {n + 2}," for n in range(1, 11)]

    async def ask(client: openai.AsyncOpenAI, prompt: str, stream: bool) -> str:
        options = {"model": "nano", "prompt": prompt, "temperature": 0, "max_tokens": 8}
        options["extra_body"] = {"n_draft": 0}  # passes of one shape, so that near-ties are equal
        if not stream:
            reply = await client.completions.create(**options)  # type: ignore[call-overload]
            return str(reply.choices[0].text)
        chunks = await client.completions.create(**options, stream=True)  # type: ignore[call-overload]
        return "".join([chunk.choices[0].text async for chunk in chunks])

    async with openai.AsyncOpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        alone = [await ask(client, prompt, stream=False) for prompt in prompts]
        concurrent = await asyncio.gather(
            *(ask(client, prompt, stream=i % 2 == 0) for i in range(10) for prompt in prompts)
        )
    assert len(set(alone)) > 5
    assert concurrent == alone * 10


def test_memory_does_not_grow(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    with server.http() as http:

        def burst() -> int:
            for i in range(60):
                body = {"prompt": f"{i}, {i + 1},", "stream": i % 2 == 0, "logprobs": 5}
                assert http.post("/v1/completions", json=body).status_code == 200
            return int(process.memory_info().rss)

        burst()
        before, after = burst(), burst()
    assert after - before < 4 << 20


def test_two_hundred_concurrent_connections() -> None:
    with serving("--queue", "20") as server, ThreadPoolExecutor(200) as pool:

        def ask(_: int) -> httpx.Response:
            with server.http() as http:
                return http.post("/v1/completions", json={"prompt": "1, 2,", "max_tokens": 200})

        replies = list(pool.map(ask, range(200)))
        statuses = {reply.status_code for reply in replies}
        assert statuses <= {200, 429}
        assert sum(reply.status_code == 200 for reply in replies) >= 21
        for reply in replies:
            if reply.status_code == 429:
                assert reply.json()["error"]["type"] == "rate_limit_error"
                assert reply.headers["Retry-After"] == "1"
        # A response is sent before its request is removed from the metrics.
        until = time.monotonic() + 30
        while server.metrics()["localmtp_requests_running"] and time.monotonic() < until:
            time.sleep(0.05)
        assert server.metrics()["localmtp_requests_running"] == 0


def test_time_limit_ends_an_answer() -> None:
    with serving("--time-limit", "0.001") as server, server.http() as http:
        reply = http.post("/v1/completions", json={"prompt": "1, 2,", "max_tokens": 1500})
        assert reply.json()["choices"][0]["finish_reason"] == "length"
        assert reply.json()["usage"]["completion_tokens"] < 1500


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_signals_shut_down_cleanly(sent: signal.Signals, status: int) -> None:
    with serving("--parallel", "1") as server:
        running = post(server, {"prompt": "1, 2,", "max_tokens": 200, "stream": True})
        wait_until(lambda: arrived(server) == 1)
        waiting = [post(server, {**LONG, "stream": False}) for _ in range(2)]
        wait_until(lambda: arrived(server) == 3)
        server.process.send_signal(sent)
        assert server.process.wait(timeout=30) == status
        answered = running.makefile().read()
        assert "data: [DONE]" in answered  # short enough to finish
        # Their order is unknown; one of them never starts.
        assert any("503" in one.makefile().readline() for one in waiting)
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


@needs_signals
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_pacing_data_is_saved_on_shutdown(sent: signal.Signals, tmp_path: Path) -> None:
    with serving(environment={"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}) as server:
        with server.http() as http:
            body = {"prompt": "1, 2,", "max_tokens": 50, "temperature": 0}
            assert http.post("/v1/completions", json=body).status_code == 200
        server.process.send_signal(sent)
        server.process.wait(timeout=30)
    assert list(tmp_path.rglob("*-greedy-*.json"))
    assert list(tmp_path.rglob("*-costs-*.json"))


@needs_signals
@pytest.mark.parametrize("signals", [1, 2])
def test_long_requests_are_cut_on_shutdown(signals: int) -> None:
    with serving() as server:
        endless = {**LONG, "prompt": [COUNTING] * 16, "n_draft": 0}
        streamed, whole = (post(server, {**endless, "stream": stream}) for stream in (True, False))
        wait_until(lambda: server.metrics()["localmtp_completion_tokens_total"] > 0)
        for _ in range(signals):
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert server.process.wait(timeout=30) == 130
        if signals == 1:
            assert '"code": "shutting_down"' in streamed.makefile().read().replace('":"', '": "')
            assert "503" in whole.makefile().readline()
        assert server.process.stderr is not None
        assert server.process.stderr.read().strip() == ""


def test_killed_server_restarts_on_the_same_port() -> None:
    with serving() as first:
        port = first.root.rpartition(":")[2]
        line = post(first, {**LONG, "stream": True})
        assert line.recv(10)
        first.process.kill()
        first.process.wait()
    with serving("--port", port) as second, second.http() as http:
        assert second.url == first.url
        assert http.post("/v1/completions", json={"prompt": "1, 2,"}).status_code == 200
