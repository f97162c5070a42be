"""Layers on RPC servers: two processes on loopback, if llama.cpp was built with RPC."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from localmtp.engine.llama.ggml import Device, has_rpc
from localmtp.models.memory.available import budget_of
from localmtp.models.memory.placement import MemoryBudget
from tests.remote.processes import localmtp
from tests.rpc import FOLDER, needs_rpc, rpc_server

GB = 10**9
QUESTION = ("run", "nano", "Count from 1 to 20.", "--json", "--temp", "0", "--threads", "1")


def with_rpc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return localmtp(*arguments, LLAMA_CPP_LIB_PATH=str(FOLDER))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server of something else, which sends `answer` to every client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(100)
                line.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.skipif(has_rpc(), reason="this libllama has RPC")
def test_a_libllama_without_rpc_says_how_to_get_it() -> None:
    done = localmtp(*QUESTION, "--rpc", "127.0.0.1:50052")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "error: this libllama was built without RPC"
    assert "GGML_RPC=on" in done.stderr


def test_memory_of_other_machines_is_added() -> None:
    away = Device("RPC0", "", 24 * GB, 24 * GB, remote=True)
    here = Device("MTL0", "", 12 * GB, 12 * GB, unified=True)
    assert budget_of(16 * GB, [away]).remote == budget_of(16 * GB, [away]).gpu > 22 * GB
    both = budget_of(16 * GB, [away, here])
    assert both.unified
    assert both.total == 16 * GB + both.remote
    assert MemoryBudget(16 * GB, 12 * GB, 1, unified=True).total == 16 * GB


@needs_rpc
@pytest.mark.parametrize("layers", [(), ("--gpu-layers", "3"), ("--gpu-layers", "0")])
def test_drafts_and_answers_are_those_of_one_machine(layers: tuple[str, ...]) -> None:
    question = (*QUESTION, "--n-draft", "3")
    alone = with_rpc(*question, "--drafter", "none")
    with rpc_server() as (first, _), rpc_server() as (second, _):
        one = with_rpc(*question, "--rpc", first, *layers)
        two = with_rpc(*question, "--rpc", f"{first},{second}", *layers)
    for done in (one, two):
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["text"] == json.loads(alone.stdout)["text"]
        assert answer["stats"]["accepted"] > 0


@needs_rpc
def test_a_second_turn_reuses_the_servers_cache() -> None:
    talk = """
import sys
from localmtp.engine.rpc import add_servers
from localmtp.engine.pair import LoadOptions
from localmtp.session.local import open_session
from localmtp.models import resolve
from localmtp.session import Choices
if sys.argv[1:]:
    add_servers(sys.argv[1:])
session = open_session(resolve("nano"), Choices(temperature=0), LoadOptions(threads=1))
for question in ("Count from 1 to 20.", "Who are you?", "Count from 5 to 9."):
    list(session.ask(question))
    print(session.messages[-1].text)
session.close()
"""

    def talked(*servers: str) -> str:
        environment = {**os.environ, "LLAMA_CPP_LIB_PATH": str(FOLDER)}
        command = [sys.executable, "-c", talk, *servers]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    with rpc_server() as (endpoint, _):
        assert talked(endpoint) == talked()


@needs_rpc
def test_doctor_lists_the_servers_memory() -> None:
    with rpc_server() as (endpoint, _):
        found = json.loads(with_rpc("doctor", "--json", "--rpc", endpoint).stdout)
    (device,) = (device for device in found["devices"] if device["remote"])
    assert device["description"] == f"RPC server {endpoint}"
    assert device["total"] > 0


@needs_rpc
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "is not an RPC server"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "is not an RPC server"),
        (struct.pack("<QBBB25x", 28, 6, 1, 0), "has protocol version 6.1.0, this libllama has 7.0"),
        (struct.pack("<QBBB25x", 28, 7, 9, 0), "has protocol version 7.9.0"),
    ],
)
def test_other_servers_are_refused(answer: bytes, said: str) -> None:
    with answering(answer) as endpoint:
        refused(endpoint, said)


@needs_rpc
@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("nowhere.invalid:50052", "cannot reach"),
        ("127.0.0.1", "is not the address"),
        ("127.0.0.1:0", "is not the address"),
        ("[::1]:50052", "is not the address"),
        (":50052", "is not the address"),
        ("a..b:50052", "cannot reach"),
    ],
)
def test_unreachable_servers_are_reported_in_one_line(endpoint: str, said: str) -> None:
    refused(endpoint, said)


def refused(endpoint: str, said: str) -> None:
    done = with_rpc(*QUESTION, "--rpc", endpoint)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert said in error
    assert hint.startswith("hint: ")


@needs_rpc
def test_a_server_in_use_is_reported() -> None:
    with rpc_server() as (endpoint, _):
        host, port = endpoint.split(":")
        with socket.create_connection((host, int(port))) as other:
            other.sendall(b"\x0e")
            refused(endpoint, "does not respond")


@needs_rpc
@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_server_that_is_lost_ends_the_program_with_one_line(end: str) -> None:
    environment = {**os.environ, "LLAMA_CPP_LIB_PATH": str(FOLDER)}
    with rpc_server() as (endpoint, process):
        command = [sys.executable, "-m", "localmtp", "bench", "nano", "--threads", "1"]
        command += ["--rpc", endpoint, "--n-draft", "0", "--repeats", "10"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as bench:
            assert bench.stderr is not None
            assert "answers" in bench.stderr.readline()
            getattr(process, end)()
            assert bench.wait(timeout=60) == 1
            last = bench.stderr.read().splitlines()[-1]
    assert last == f"error: an RPC server was lost: {endpoint}"
