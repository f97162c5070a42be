"""Headers of safetensors files: name, data type, shape and place of every tensor.

Format: eight bytes (little-endian length), a JSON header of that length, then the data that the
header's offsets point into (https://huggingface.co/docs/safetensors). Offsets are checked against
the file's size before any data is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from localmtp.engine.llama.ggml import BF16, F16, F32, Bytes
from localmtp.errors import LocalmtpError

_HEADER_LIMIT = 100 << 20
"""Longest header in bytes; the limit of the safetensors library."""

_MAX_NAME = 1024
"""Longest name of a tensor, which errors quote."""
_MAX_DIMENSIONS = 8
_MAX_DIMENSION = 1 << 48

_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
GGML_TYPES = {"F32": F32, "F16": F16, "BF16": BF16}
"""Data types that can be converted → `ggml_type`."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    """Bytes from the start of the file."""

    @property
    def size(self) -> int:
        """Length of the data in bytes."""
        return prod(self.shape) * _ITEM_SIZES[self.dtype]

    def read(self, start: int, size: int) -> Bytes:
        """Read `size` bytes, beginning at byte `start` of the data.

        Raises:
            LocalmtpError: the file cannot be read, or was truncated after its header was read.
        """
        raw = np.empty(size, np.uint8)
        got = 0
        try:
            with self.file.open("rb", buffering=0) as file:
                file.seek(self.offset + start)
                while got < size and (n := file.readinto(raw.data[got:])):
                    got += n
        except OSError as error:
            raise LocalmtpError(f"cannot read {self.file}: {error.strerror}") from error
        if got < size:
            raise damaged(self.file, f"it ends inside {self.name}")
        return raw


def read_header(path: Path) -> Iterator[StoredTensor]:
    """Read the tensors' descriptions from one file.

    Raises:
        LocalmtpError: the file cannot be read, is damaged, or has a data type that is unknown.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise damaged(path, f"it has {size} bytes, its header claims {length}")
            text = file.read(length)
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = [_stored(path, name, entry, 8 + length) for name, entry in header.items()]
    end = 8 + length
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.size)):
        if tensor.offset < end and tensor.size:
            raise damaged(path, f"{tensor.name} overlaps the tensor before it")
        end = max(end, tensor.offset + tensor.size)
    if end > size:
        raise damaged(path, f"it has {size} bytes, its tensors need {end}")
    yield from tensors


def damaged(path: Path, why: str) -> LocalmtpError:
    """Build the error for a file whose content contradicts itself."""
    return LocalmtpError(f"{path} is damaged: {why}", hint="download it again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a name occurs twice")
    return keys


def _stored(path: Path, name: str, entry: object, base: int) -> StoredTensor:
    if len(name) > _MAX_NAME:
        raise damaged(path, f"a tensor's name has {len(name)} characters")
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise damaged(path, f"the header's entry for {name} is malformed")
    if dtype not in _ITEM_SIZES:
        raise LocalmtpError(
            f"{path}: {name} has the unknown data type {dtype[:60]}",
            hint=f"supported data types: {', '.join(GGML_TYPES)}",
        )
    if len(shape) > _MAX_DIMENSIONS or not all(
        type(n) is int and 0 <= n < _MAX_DIMENSION for n in shape
    ):
        raise damaged(path, f"{name} has the shape {str(shape)[:200]}")
    tensor = StoredTensor(name, dtype, tuple(shape), path, base + start)
    if start < 0 or end - start != tensor.size:
        raise damaged(path, f"{name} has offsets that do not match its shape")
    return tensor
