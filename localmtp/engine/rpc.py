"""Devices of other machines, through llama.cpp's RPC backend.

libllama aborts the process if a server cannot be used, so each one is tried here first, with the
backend's own protocol (`negotiate_hello` in llama.cpp's `ggml-rpc.cpp`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from importlib.metadata import version

from localmtp.engine.llama.ggml import add_rpc_server, has_rpc
from localmtp.errors import LocalmtpError

_VERSION = (7, 0)
"""RPC_PROTO_MAJOR_VERSION and the latest minor version in `ggml-rpc.h` of the pinned libllama."""

_PATIENCE_S = 5.0
_MOST_SERVERS = 16  # GGML_RPC_MAX_SERVERS
_HELLO = struct.pack("<BQ24x", 14, 24)  # RPC_CMD_HELLO, its size, no capabilities
_ANSWER = struct.Struct("<QBBB25x")  # size, version, padding and capabilities


def add_servers(endpoints: Iterable[str]) -> None:
    """Make the devices of RPC servers available to libllama until the process ends.

    They are used before local GPUs. Connections are neither encrypted nor authenticated: use
    trusted networks only.

    Args:
        endpoints: HOST:PORT of each server (IPv4).

    Raises:
        LocalmtpError: libllama was built without RPC, or a server cannot be used.
    """
    servers = list(dict.fromkeys(endpoints))
    if not has_rpc():
        raise LocalmtpError(
            "this libllama was built without RPC",
            hint='CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall --no-cache-dir '
            f"--no-binary llama-cpp-python llama-cpp-python=={version('llama-cpp-python')}",
        )
    if len(servers) > _MOST_SERVERS:
        raise LocalmtpError(f"{len(servers)} RPC servers; at most {_MOST_SERVERS} are supported")
    for endpoint in servers:
        _try(endpoint)
        if not add_rpc_server(endpoint):
            raise LocalmtpError(f"the RPC server {endpoint} offers no device")


def _try(endpoint: str) -> None:
    """Send the first message that libllama sends, and check the response."""
    host, _, port = endpoint.rpartition(":")
    if not host or ":" in host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise LocalmtpError(
            f"`{endpoint}` is not the address of an RPC server",
            hint="for example 192.168.0.2:50052",
        )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
            line.settimeout(_PATIENCE_S)
            line.connect((host, int(port)))
            try:
                line.sendall(_HELLO)
                answer = _read(line, _ANSWER.size)
            except TimeoutError as error:
                raise LocalmtpError(
                    f"{endpoint} does not respond like an RPC server",
                    hint="it serves one program at a time: stop that program, or start another",
                ) from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LocalmtpError(
            f"cannot reach the RPC server {endpoint}: {reason}",
            hint="start it there with `ggml-rpc-server -H ADDRESS -p PORT`",
        ) from error
    size, major, minor, patch = _ANSWER.unpack(answer) if answer else (0, 0, 0, 0)
    if size != _ANSWER.size - 8:
        raise LocalmtpError(
            f"{endpoint} is not an RPC server of llama.cpp", hint="start one with `ggml-rpc-server`"
        )
    if major != _VERSION[0] or minor > _VERSION[1]:
        wanted = ".".join(map(str, _VERSION))
        raise LocalmtpError(
            f"the RPC server {endpoint} has protocol version {major}.{minor}.{patch}, this "
            f"libllama has {wanted}",
            hint="build both from the same llama.cpp",
        )


def _read(line: socket.socket, size: int) -> bytes:
    """Read `size` bytes; returns none if the peer sends fewer, or announces another size."""
    data = b""
    while len(data) < size:
        part = line.recv(size - len(data))
        data += part
        if not part or (len(data) >= 8 and data[:8] != struct.pack("<Q", size - 8)):
            return b""
    return data
