"""Headers of GGUF files, read quickly and in bounded memory.

The layout is that of the GGUF specification, versions 2 and 3, little-endian
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). `gguf.GGUFReader` builds a numpy view
of every string, which takes half a minute for the vocabulary of Gemma 4; this reader skips
vocabularies, and works on the first bytes of a file on a server.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from localmtp.errors import LocalmtpError

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]

VOCABULARY = "tokenizer.ggml.tokens"

_UINT32, _STRING, _ARRAY, _UINT64 = 4, 8, 9, 10
_NUMBERS = {
    kind: struct.Struct(f"<{code}")
    for kind, code in enumerate(["B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d"])
    if code
}

# Far above any published file (Gemma 4: about 60 keys, 833 tensors, 1.3 million array elements, a
# chat template of 17 kB), and low enough to reject a hostile file immediately.
_MAX_ENTRIES = 1 << 16
_MAX_ELEMENTS = 1 << 24
_MAX_STRING = 1 << 20
_MAX_BYTES_READ = 1 << 24
_MAX_RANK = 4
_MAX_ARCHITECTURE = 64
# Arrays with one element per layer are read; vocabularies, scores and merges are skipped.
_MAX_ARRAY_READ = 4096


class BadHeaderError(ValueError):
    """The bytes are not a GGUF header, or end before it does; the message follows a file name."""


class CutOffError(BadHeaderError):
    """The bytes end before the header does."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An entry of the tensor table."""

    name: str
    shape: tuple[int, ...]
    """Contiguous dimension first, as GGUF stores it."""
    kind: int
    """The `ggml_type`."""
    nbytes: int
    """Bytes up to the next tensor, padding included."""


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata of a GGUF file."""

    values: Mapping[str, Value]
    """Scalars, strings, and short arrays; vocabularies are left out."""
    lengths: Mapping[str, int]
    """Number of elements of every array."""
    arrays: Mapping[str, int]
    """Offset of the first element of every array, in bytes."""
    tensors: tuple[TensorInfo, ...] = ()
    """Empty when only the settings were read."""
    values_end: int = 0
    """Offset of the tensor table, in bytes; 0 when only the settings were read."""
    data_offset: int = 0
    """Offset of the tensor data in bytes; 0 when only the settings were read."""

    @property
    def architecture(self) -> str:
        """`gemma4`, `gemma4-assistant`, …; empty if missing, or no name."""
        value = self.values.get("general.architecture", "")
        return value if isinstance(value, str) and len(value) <= _MAX_ARCHITECTURE else ""

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary; 0 without one."""
        return self.lengths.get(VOCABULARY, 0)

    def setting(self, key: str) -> Value | None:
        """Returns the value of `ARCHITECTURE.KEY`; None if it is missing."""
        return self.values.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int = 0) -> int:
        """Returns an integer setting, of one with a value per layer the largest; else `default`."""
        value = self.setting(key)
        if isinstance(value, tuple):
            value = max((v for v in value if isinstance(v, int)), default=default)
        return int(value) if isinstance(value, int) else default


def read_header(path: Path, *, settings_only: bool = False) -> Header:
    """Reads the header of a file.

    Args:
        path: a GGUF file.
        settings_only: stop at the vocabulary if the settings precede it, which takes microseconds
            instead of a fraction of a second.

    Raises:
        LocalmtpError: not a GGUF file, damaged, or not readable.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise LocalmtpError(f"{path} is empty", hint="download or convert it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse_header(data, size, settings_only=settings_only)
    except FileNotFoundError as fault:
        raise LocalmtpError(
            f"{path} does not exist",
            hint="check the path; `localmtp list` shows the installed models",
        ) from fault
    except OSError as fault:
        raise LocalmtpError(f"cannot read {path}: {fault.strerror}") from fault
    except BadHeaderError as fault:
        raise LocalmtpError(f"{path} {fault}", hint=download_hint(path)) from fault


def download_hint(path: Path) -> str:
    """Returns the hint for a damaged file, which may be in the hub's cache."""
    folder = next((part for part in path.parts if part.startswith("models--")), "")
    if not folder:
        return "download or convert it again"
    repo = folder.removeprefix("models--").replace("--", "/", 1)
    return f"`localmtp pull {repo} --verify` downloads it again"


def parse_header(data: bytes | mmap.mmap, size: int, *, settings_only: bool = False) -> Header:
    """Parses a header.

    Args:
        data: the first bytes of a file, or the whole file.
        size: of the whole file in bytes.
        settings_only: see `read_header`.

    Raises:
        BadHeaderError: not GGUF, or with implausible counts or lengths.
        CutOffError: more bytes are needed.
    """
    reader = _Reader(data)
    try:
        n_tensors, n_values = _counts(reader)
        header = _metadata(reader, n_values, settings_only=settings_only)
        return header if settings_only else _with_tensors(reader, header, n_tensors, size)
    except (struct.error, OverflowError) as fault:
        raise CutOffError("ends inside its GGUF header") from fault
    except UnicodeDecodeError as fault:
        raise BadHeaderError("has a damaged GGUF header: a text is not UTF-8") from fault


def _counts(reader: _Reader) -> tuple[int, int]:
    if reader.take(4) != b"GGUF":
        raise BadHeaderError("is not a GGUF file")
    version = reader.number(_UINT32)
    if version not in (2, 3):
        raise BadHeaderError(f"has GGUF version {version}; 2 and 3 can be read")
    n_tensors, n_values = int(reader.number(_UINT64)), int(reader.number(_UINT64))
    if max(n_tensors, n_values) > _MAX_ENTRIES:
        raise BadHeaderError("has a damaged GGUF header: implausible counts")
    return n_tensors, n_values


def _metadata(reader: _Reader, n_values: int, *, settings_only: bool) -> Header:
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    arrays: dict[str, int] = {}
    header = Header(values, lengths, arrays)
    for _ in range(n_values):
        key, kind = reader.string(), int(reader.number(_UINT32))
        if key in values or key in lengths:
            raise BadHeaderError(f"has a damaged GGUF header: the key {key[:80]} occurs twice")
        if kind != _ARRAY:
            values[key] = reader.scalar(kind)
            continue
        kind, lengths[key] = int(reader.number(_UINT32)), int(reader.number(_UINT64))
        arrays[key] = reader.at
        if settings_only and key == VOCABULARY and header.number("block_count"):
            break
        elements = reader.array(kind, lengths[key])
        if elements is not None:
            values[key] = elements
    return header


def _with_tensors(reader: _Reader, header: Header, n_tensors: int, size: int) -> Header:
    entries = []
    values_end = reader.at
    for _ in range(n_tensors):
        name, rank = reader.string(), int(reader.number(_UINT32))
        if rank > _MAX_RANK:
            raise BadHeaderError(f"has a damaged GGUF header: tensor {name} of {rank} dimensions")
        shape = tuple(int(reader.number(_UINT64)) for _ in range(rank))
        entries.append((int(reader.number(_UINT32)), int(reader.number(_UINT64)), name, shape))
    alignment = header.values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ENTRIES:
        raise BadHeaderError(f"has a damaged GGUF header: alignment {alignment}")
    start = -(-reader.at // alignment) * alignment
    offsets = sorted(offset for _, offset, _, _ in entries)
    if offsets and start + offsets[-1] >= size:
        raise BadHeaderError("is cut off: tensor data is missing")
    following = dict(pairwise([*offsets, size - start]))
    tensors = tuple(
        TensorInfo(name, shape, kind, following[offset] - offset)
        for kind, offset, name, shape in entries
    )
    return replace(header, tensors=tensors, values_end=values_end, data_offset=start)


@dataclass(slots=True)
class _Reader:
    """A position in the bytes; reading past the end raises `struct.error`."""

    data: bytes | mmap.mmap
    at: int = 0
    elements: int = 0
    taken: int = 0

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise struct.error("past the end")
        self.taken += length
        if length > _MAX_STRING or self.taken > _MAX_BYTES_READ:
            raise BadHeaderError("has a damaged GGUF header: implausible lengths")
        self.at += length
        return self.data[self.at - length : self.at]

    def string(self) -> str:
        return self.take(int(self.number(_UINT64))).decode()

    def number(self, kind: int) -> int | float | bool:
        form = _NUMBERS[kind]
        value: int | float | bool = form.unpack_from(self.data, self.at)[0]
        self.at += form.size
        return value

    def scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.string()
        if kind not in _NUMBERS:
            raise BadHeaderError(f"has a damaged GGUF header: value of type {kind}")
        return self.number(kind)

    def array(self, kind: int, count: int) -> tuple[Scalar, ...] | None:
        """Returns the elements; skips them and returns None if there are too many."""
        self.elements += count
        if self.elements > _MAX_ELEMENTS:
            raise BadHeaderError("has a damaged GGUF header: implausible counts")
        if count <= _MAX_ARRAY_READ:
            return tuple(self.scalar(kind) for _ in range(count))
        if kind == _STRING:
            self._skip_strings(count)
        elif kind in _NUMBERS:
            self.at += count * _NUMBERS[kind].size
        else:
            raise BadHeaderError(f"has a damaged GGUF header: array of type {kind}")
        return None

    def _skip_strings(self, count: int) -> None:
        # Hot loop over a vocabulary: everything is hoisted out of it.
        data, at, read = self.data, self.at, _NUMBERS[_UINT64].unpack_from
        for _ in range(count):
            at += 8 + read(data, at)[0]
        self.at = at
