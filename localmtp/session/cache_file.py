"""Files of the prompt cache: the state of one sequence each.

A magic number, the length of a JSON header, the header, then its arrays one after another. Every
array has a CRC, so that a damaged file is not loaded.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from localmtp.atomic import atomic_write
from localmtp.engine.decoding.state import DrafterState, SavedCheckpoint, SequenceState

_MAGIC = b"LOCALMTP-PROMPT2"
_LENGTH = struct.Struct("<Q")
_MAX_HEADER = 1 << 16
_TYPES = ("int64", "float32", "uint8")
_DRAFTER_ARRAYS = 3
"""Arrays of each cache of a drafter."""

Array = NDArray[Any]


class DamagedFileError(Exception):
    """A file is not one of the cache, or damaged."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What a file holds, known without reading its state."""

    path: Path
    tokens: NDArray[np.int64]
    checkpoints: tuple[int, ...]
    """Numbers of tokens at which there is a checkpoint."""
    size: int
    """Bytes of the file."""


def write_state(path: Path, key: str, state: SequenceState) -> None:
    """Writes a state next to its path, then renames it.

    Args:
        path: of the file.
        key: of the model and its settings.
        state: to write.

    Raises:
        LocalmtpError: it cannot be written.
    """
    arrays = list(_arrays(state))
    header = {
        "key": key,
        "checkpoints": list(state.checkpoints),
        "hidden": [saved.hidden is not None for saved in state.checkpoints.values()],
        "drafter": [one.begin for one in state.drafter],
        "arrays": [
            {"type": str(array.dtype), "bytes": array.nbytes, "crc": crc32(array.data)}
            for array in arrays
        ],
    }
    text = json.dumps(header).encode()
    with atomic_write(path) as file:
        Path(file.name).chmod(0o600)  # it is as private as the conversation
        file.write(_MAGIC + _LENGTH.pack(len(text)) + text)
        for array in arrays:
            file.write(array.data)


def read_entry(path: Path, key: str) -> CacheEntry:
    """Reads the tokens of a file.

    Raises:
        DamagedFileError: it is damaged, or of another model.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header, start = _header(file.read(len(_MAGIC) + _LENGTH.size + _MAX_HEADER), key)
        size = path.stat().st_size
        arrays = header["arrays"]
        if start + sum(array["bytes"] for array in arrays) != size:
            raise DamagedFileError(path)
        file.seek(start)
        tokens = np.frombuffer(file.read(arrays[0]["bytes"]), np.int64)
    return CacheEntry(path, tokens, tuple(header["checkpoints"]), size)


def read_state(path: Path, key: str) -> SequenceState:
    """Reads a state.

    Raises:
        DamagedFileError: it is damaged, or of another model.
        OSError: it cannot be read.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        header, at = _header(data[: len(_MAGIC) + _LENGTH.size + _MAX_HEADER], key)
        found: list[Array] = []
        for entry in header["arrays"]:
            array = np.frombuffer(data[at : at + entry["bytes"]], np.dtype(entry["type"]))
            if array.nbytes != entry["bytes"] or crc32(array.data) != entry["crc"]:
                raise DamagedFileError(path)
            found.append(array)
            at += entry["bytes"]
    tokens, hidden, cache, *rest = found
    arrays = iter(rest)
    checkpoints = {
        length: SavedCheckpoint(next(arrays), next(arrays) if known else None)
        for length, known in zip(header["checkpoints"], header["hidden"], strict=True)
    }
    drafter = [_read_drafter(begin, arrays) for begin in header["drafter"]]
    return SequenceState(tokens.tolist(), hidden, cache, checkpoints, drafter)


def _read_drafter(begin: int, arrays: Iterator[Array]) -> DrafterState:
    cache, tokens, hidden = (next(arrays) for _ in range(_DRAFTER_ARRAYS))
    rows = hidden.reshape(len(tokens), -1) if hidden.size else None
    return DrafterState(cache, begin, tokens.tolist(), rows)


def _arrays(state: SequenceState) -> Iterator[Array]:
    yield np.array(state.tokens, np.int64)
    yield np.ascontiguousarray(state.hidden, np.float32)
    yield np.ascontiguousarray(state.cache)
    for saved in state.checkpoints.values():
        yield np.ascontiguousarray(saved.window)
        if saved.hidden is not None:
            yield np.ascontiguousarray(saved.hidden, np.float32)
    for one in state.drafter:
        yield np.ascontiguousarray(one.cache)
        yield np.array(one.tokens, np.int64)
        yield np.ascontiguousarray(() if one.hidden is None else one.hidden, np.float32)


def _header(data: bytes, key: str) -> tuple[dict[str, Any], int]:
    """Returns the header, and the offset of the first array."""
    start = len(_MAGIC) + _LENGTH.size
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        raise DamagedFileError
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        header: dict[str, Any] = json.loads(data[start : start + length])
        if header["key"] != key or len(header["checkpoints"]) != len(header["hidden"]):
            raise DamagedFileError
        checked = [array["type"] in _TYPES and array["bytes"] >= 0 for array in header["arrays"]]
        expected = 3 + len(header["hidden"]) + sum(header["hidden"])
        expected += _DRAFTER_ARRAYS * len([int(begin) for begin in header["drafter"]])
        if not all(checked) or len(checked) != expected:
            raise DamagedFileError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError from error
    return header, start + length
