"""Copies of GGUF files with other metadata, written without libllama."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from localmtp.models.embedded import embedded_files

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
_FORMS = {UINT32: "I", 5: "i", FLOAT32: "f", 7: "?"}

Change = tuple[int, object] | None
"""Type and value; None removes the key."""


def edited(path: Path, changes: Mapping[str, Change], source: Path | None = None) -> Path:
    """Writes a copy of a file, the embedded target unless given, with other metadata.

    An array is a tuple of its element type and a list of elements.
    """
    data = (source or embedded_files().target).read_bytes()
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    at, entries = 24, {}
    for _ in range(n_values):
        (length,) = struct.unpack_from("<Q", data, at)
        key, start = data[at + 8 : at + 8 + length].decode(), at
        at = _end(data, at + 8 + length)
        entries[key] = data[start:at]
    table = at
    for _ in range(n_tensors):
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8 + length
        (rank,) = struct.unpack_from("<I", data, at)
        at += 4 + 8 * rank + 12
    for key, change in changes.items():
        if change is None:
            del entries[key]
        else:
            entries[key] = _string(key.encode()) + struct.pack("<I", change[0]) + _packed(*change)
    header = struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, len(entries))
    header += b"".join(entries.values()) + data[table:at]
    tensors = data[at + -at % 32 :]
    path.write_bytes(header + bytes(-len(header) % 32) + tensors)
    return path


def strings(source: Path, key: str) -> list[bytes]:
    """Returns the elements of an array of strings."""
    data = source.read_bytes()
    at = data.index(_string(key.encode())) + 8 + len(key) + 8
    (count,) = struct.unpack_from("<Q", data, at)
    at, found = at + 8, []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return found


def _end(data: bytes, at: int) -> int:
    """Returns the offset after a typed value."""
    (kind,) = struct.unpack_from("<I", data, at)
    return _skip(data, at + 4, kind)


def _skip(data: bytes, at: int, kind: int) -> int:
    if kind == STRING:
        (length,) = struct.unpack_from("<Q", data, at)
        return int(at + 8 + length)
    if kind == ARRAY:
        inner, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            at = _skip(data, at, inner)
        return at
    return at + {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}[kind]


def _packed(kind: int, value: object) -> bytes:
    if kind == STRING:
        return _string(value if isinstance(value, bytes) else str(value).encode())
    if kind == ARRAY:
        assert isinstance(value, tuple)
        inner, elements = value
        packed = (_packed(inner, element) for element in elements)
        return struct.pack("<IQ", inner, len(elements)) + b"".join(packed)
    return struct.pack("<" + _FORMS[kind], value)


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text
