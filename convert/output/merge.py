"""Merge the parts of a split model into one file.

Parts are named as llama.cpp's gguf-split names them, `NAME-00001-of-00003.gguf`. The first part has
the metadata; every part has its own tensors. Entries and data are copied unchanged, except that
the keys of the split (`split.*`) are left out and offsets are recomputed. Layout: GGUF
specification, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from localmtp.convert.output.gguf_file import (
    WorkFolder,
    WrittenFile,
    refuse_existing,
    require_disk_space,
)
from localmtp.convert.output.load_check import check_runs
from localmtp.errors import LocalmtpError

_NAME = re.compile(r"(.+)-00001-of-(\d{5})\.gguf")
_SPLIT = "split."
_ALIGNMENT = "general.alignment"
_BLOCK = 16 << 20
"""Bytes copied at a time."""
_MAX_ALIGNMENT = 1 << 16
_MAX_METADATA = 256 << 20
"""Bytes of metadata that are held in memory; a vocabulary of 262,144 tokens takes 16 MiB."""
_MAX_DIMENSIONS = 4
"""GGML_MAX_DIMS."""

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""`gguf_metadata_value_type` → size of a value in bytes."""


@dataclass(frozen=True, slots=True)
class _GgufPart:
    path: Path
    version: int
    values: Mapping[str, bytes]
    """Key → complete entry: key, type and value."""
    tensors: Sequence[tuple[bytes, int, int]]
    """Entry of the tensor table without its offset, position of the data, size of the data."""

    @property
    def alignment(self) -> int:
        return self.number(_ALIGNMENT, 4) or 32

    def number(self, key: str, size: int) -> int:
        """Return the integer of `size` bytes at the end of an entry; 0 if there is no such key."""
        return int.from_bytes(self.values.get(key, b"")[-size:], "little")


def merge(
    first: Path,
    out: Path,
    *,
    force: bool = False,
    threads: int = 1,
    progress: Callable[[Path, int, int], None] = lambda *_: None,
) -> WrittenFile:
    """Write `NAME.gguf` from `NAME-00001-of-0000N.gguf` and the other parts, which stay.

    Args:
        first: the first part; the others must be in the same directory.
        out: directory for the file; created if missing.
        force: replace an existing file.
        threads: number of threads that check the result.
        progress: called with the file, bytes written, and total bytes.

    Returns:
        The merged file.

    Raises:
        LocalmtpError: a part is missing, damaged or of another model; the file exists or cannot be
            written; or libllama cannot run it.
    """
    parts = [_read_part(path) for path in _part_paths(first)]
    _require_one_model(parts)
    destination = out / f"{first.name[: -len('-00001-of-00001.gguf')]}.gguf"
    if not force and destination.exists():
        refuse_existing([destination])
    try:
        require_disk_space(out, [part.path.stat().st_size for part in parts])
        digest = hashlib.sha256()
        total = sum(size for part in parts for _, _, size in part.tensors)
        done = 0
        with WorkFolder(destination) as folder:
            partial = folder.path / destination.name
            with partial.open("wb") as file:
                for block in _merged(parts):
                    file.write(block)
                    digest.update(block)
                    done += len(block)
                    progress(destination, min(done, total), total)
                file.flush()
                os.fsync(file.fileno())
            check_runs(partial, threads)
            if not force and destination.exists():
                refuse_existing([destination])
            partial.replace(destination)
    except OSError as error:
        raise LocalmtpError(
            f"cannot write {destination}: {error.strerror}", hint="choose another --out"
        ) from error
    return WrittenFile(destination, destination.stat().st_size, digest.hexdigest())


def _part_paths(first: Path) -> list[Path]:
    """Paths of all parts in order."""
    match = _NAME.fullmatch(first.name)
    if match is None:
        raise LocalmtpError(
            f"{first} is not the first part of a split model",
            hint="the first part is called NAME-00001-of-N.gguf, such as NAME-00001-of-00003.gguf",
        )
    count = int(match[2])
    paths = [first.with_name(f"{match[1]}-{i + 1:05}-of-{count:05}.gguf") for i in range(count)]
    for path in paths:
        if not path.is_file():
            raise LocalmtpError(f"{path} is missing", hint="all parts must be in one directory")
    return paths


def _require_one_model(parts: Sequence[_GgufPart]) -> None:
    total = sum(len(part.tensors) for part in parts)
    for i, part in enumerate(parts):
        numbers = part.number("split.no", 2), part.number("split.count", 2)
        if numbers != (i, len(parts)) or part.number("split.tensors.count", 4) != total:
            raise LocalmtpError(
                f"{part.path} does not belong to the other parts",
                hint="download all parts of one model",
            )


def _merged(parts: Sequence[_GgufPart]) -> Iterator[bytes]:
    """Yield the bytes of the merged file."""
    values = [entry for key, entry in parts[0].values.items() if not key.startswith(_SPLIT)]
    tensors = [tensor for part in parts for tensor in part.tensors]
    alignment = parts[0].alignment
    header = bytearray(struct.pack("<4sIQQ", b"GGUF", parts[0].version, len(tensors), len(values)))
    header += b"".join(values)
    offset = 0
    for described, _, size in tensors:
        header += described + struct.pack("<Q", offset)
        offset += size + -size % alignment
    yield bytes(header) + bytes(-len(header) % alignment)
    for part in parts:
        with part.path.open("rb") as file:
            for _, start, size in part.tensors:
                file.seek(start)
                for at in range(0, size, _BLOCK):
                    yield file.read(min(_BLOCK, size - at))
                yield bytes(-size % alignment)


def _read_part(path: Path) -> _GgufPart:
    """Read a part's header; every length is checked against the file's size."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _HeaderReader(data).part(path)
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, struct.error) as error:
        raise LocalmtpError(
            f"{path} is not a complete GGUF file: {error}", hint="download or copy it again"
        ) from error


class _HeaderReader:
    """Reads a header sequentially; reading past the end of the file is a ValueError."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0
        self._held = 0

    def part(self, path: Path) -> _GgufPart:
        if self._take(4) != b"GGUF":
            raise ValueError("it has no GGUF magic")
        version, n_tensors, n_values = self._number("I"), self._number("Q"), self._number("Q")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        values = dict(self._entry() for _ in range(n_values))
        tensors = [self._tensor() for _ in range(n_tensors)]
        alignment = _GgufPart(path, version, values, []).alignment
        if alignment > _MAX_ALIGNMENT:
            raise ValueError(f"alignment {alignment}")
        base = self._at + -self._at % alignment
        if any(base + offset + size > len(self._data) for _, offset, size in tensors):
            raise ValueError("its tensors exceed the file")
        placed = [(entry, base + offset, size) for entry, offset, size in tensors]
        return _GgufPart(path, version, values, placed)

    def _entry(self) -> tuple[str, bytes]:
        start = self._at
        key = self._take(self._number("Q")).decode()
        self._skip_value(self._number("I"))
        self._held += self._at - start
        if self._held > _MAX_METADATA:
            raise ValueError("its metadata is too large")
        return key, self._data[start : self._at]

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip(self._number("Q"))
        elif kind == _ARRAY:
            kind, count = self._number("I"), self._number("Q")
            if kind == _STRING:
                for _ in range(count):
                    self._skip(self._number("Q"))
            else:
                self._skip(_SIZES.get(kind, len(self._data)) * count)
        else:
            self._skip(_SIZES.get(kind, len(self._data)))

    def _tensor(self) -> tuple[bytes, int, int]:
        """Entry of the tensor table without its offset, the offset, and the size of the data."""
        start = self._at
        self._skip(self._number("Q"))
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
