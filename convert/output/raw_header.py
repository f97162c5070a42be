"""Headers of GGUF files as raw entries, every length checked against the file's size.

Layout: GGUF specification, versions 2 and 3
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from localmtp.errors import LocalmtpError

_ALIGNMENT = "general.alignment"
_MAX_ALIGNMENT = 1 << 16
_MAX_DIMENSIONS = 4
"""GGML_MAX_DIMS."""
_MAX_ENTRIES = 1 << 16
"""Metadata keys, and tensors."""
_MAX_KEY = (1 << 16) - 1
"""Bytes of a key (GGUF specification)."""
_MAX_STRINGS = 1 << 22
"""Strings in all arrays; Gemma 4's vocabulary and merges have 0.8 million."""

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""`gguf_metadata_value_type` → size of a value in bytes."""


@dataclass(frozen=True, slots=True)
class RawHeader:
    """The header of a GGUF file; entries are the bytes that the file has."""

    path: Path
    version: int
    values: Mapping[str, bytes]
    """Key → complete entry: key, type and value."""
    tensors: Sequence[tuple[bytes, int, int]]
    """Entry of the tensor table without its offset, position of the data, size of the data."""

    @property
    def alignment(self) -> int:
        """Alignment of the tensors' data in bytes."""
        return self.number(_ALIGNMENT, 4) or 32

    def number(self, key: str, size: int) -> int:
        """Return the integer of `size` bytes at the end of an entry; 0 if there is no such key."""
        return int.from_bytes(self.values.get(key, b"")[-size:], "little")


def read_raw_header(path: Path, max_metadata: int) -> RawHeader:
    """Read the header of a file.

    Args:
        path: a GGUF file.
        max_metadata: limit of the metadata, which is held in memory, in bytes.

    Raises:
        LocalmtpError: the file cannot be read, is not a complete GGUF file, or has more metadata.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _HeaderReader(data, max_metadata).header(path)
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, struct.error) as error:
        raise LocalmtpError(
            f"{path} is not a complete GGUF file: {error}", hint="download or copy it again"
        ) from error


class _HeaderReader:
    """Reads a header sequentially; reading past the end of the file is a ValueError."""

    def __init__(self, data: mmap.mmap, max_metadata: int) -> None:
        self._data, self._at = data, 0
        self._held, self._max_metadata = 0, max_metadata
        self._strings = 0

    def header(self, path: Path) -> RawHeader:
        if self._take(4) != b"GGUF":
            raise ValueError("it has no GGUF magic")
        version, n_tensors, n_values = self._number("I"), self._number("Q"), self._number("Q")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        if max(n_tensors, n_values) > _MAX_ENTRIES:
            raise ValueError(f"it claims {n_tensors} tensors and {n_values} metadata keys")
        values = dict(self._entry() for _ in range(n_values))
        tensors = [self._tensor() for _ in range(n_tensors)]
        alignment = RawHeader(path, version, values, []).alignment
        if alignment > _MAX_ALIGNMENT:
            raise ValueError(f"alignment {alignment}")
        base = self._at + -self._at % alignment
        if any(base + offset + size > len(self._data) for _, offset, size in tensors):
            raise ValueError("its tensors exceed the file")
        placed = [(entry, base + offset, size) for entry, offset, size in tensors]
        return RawHeader(path, version, values, placed)

    def _entry(self) -> tuple[str, bytes]:
        start = self._at
        length = self._number("Q")
        if length > _MAX_KEY:
            raise ValueError(f"a key has {length} bytes")
        key = self._take(length).decode()
        self._skip_value(self._number("I"))
        self._held += self._at - start
        if self._held > self._max_metadata:
            raise ValueError("its metadata is too large")
        return key, self._data[start : self._at]

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip(self._number("Q"))
        elif kind == _ARRAY:
            kind, count = self._number("I"), self._number("Q")
            if kind == _STRING:
                self._strings += count
                if self._strings > _MAX_STRINGS:
                    raise ValueError("it has too many strings")
                for _ in range(count):
                    self._skip(self._number("Q"))
            else:
                self._skip(_SIZES.get(kind, len(self._data)) * count)
        else:
            self._skip(_SIZES.get(kind, len(self._data)))

    def _tensor(self) -> tuple[bytes, int, int]:
        """Entry of the tensor table without its offset, the offset, and the size of the data."""
        start = self._at
        length = self._number("Q")
        if length > _MAX_KEY:
            raise ValueError(f"a tensor's name has {length} bytes")
        self._skip(length)
        dimensions = self._number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        shape = [self._number("Q") for _ in range(dimensions)]
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(self._number("I"))]
        described = self._data[start : self._at]
        return described, self._number("Q"), prod(shape) // block * size

    def _number(self, code: str) -> int:
        form = struct.Struct(f"<{code}")
        return int(form.unpack(self._take(form.size))[0])

    def _take(self, size: int) -> bytes:
        self._skip(size)
        return self._data[self._at - size : self._at]

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self._at:
            raise ValueError("its header exceeds the file")
        self._at += size
