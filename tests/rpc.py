"""llama.cpp's RPC server as a child process.

`LOCALMTP_LLAMA_CPP_BIN` is a directory with the programs and shared libraries of the llama.cpp that
llama-cpp-python vendors, built with RPC.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.remote.processes import free_port

FOLDER = Path(os.environ.get("LOCALMTP_LLAMA_CPP_BIN") or "/nowhere")
SERVER = FOLDER / "ggml-rpc-server"
needs_rpc = pytest.mark.skipif(
    not (SERVER.exists() and (FOLDER / "libllama.so").exists()),
    reason="LOCALMTP_LLAMA_CPP_BIN is not a llama.cpp with RPC and shared libraries",
)


@contextmanager
def rpc_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    command = [str(SERVER), "-H", "127.0.0.1", "-p", str(port), "-t", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"127.0.0.1:{port}", process
        finally:
            process.kill()
