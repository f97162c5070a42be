"""Commands and servers as processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_FOLDER = os.environ.get("LOCALMTP_LLAMA_CPP_BIN", "")
LLAMA_SERVER = str(Path(_FOLDER, "llama-server")) if _FOLDER else ""
"""Path of llama.cpp's server; empty if there is none to test with."""


def localmtp(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmtp", *arguments]
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env=clean | environment,
    )


@contextmanager
def listening(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Start a server and wait until it is healthy."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as log_file, subprocess.Popen(command, stderr=log_file) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, log.read_text("utf-8")
                try:
                    if httpx.get(url + "/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
