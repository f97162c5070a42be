"""Merge the parts of a split model into one file.

Parts are named as llama.cpp's gguf-split names them, `NAME-00001-of-00003.gguf`. The first part has
the metadata; every part has its own tensors. Entries and data are copied unchanged, except that
the keys of the split (`split.*`) are left out and offsets are recomputed.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from localmtp.convert.output.gguf_file import (
    WorkFolder,
    WrittenFile,
    refuse_existing,
    require_disk_space,
)
from localmtp.convert.output.load_check import check_runs
from localmtp.convert.output.raw_header import RawHeader, read_raw_header
from localmtp.errors import LocalmtpError

_NAME = re.compile(r"(.+)-00001-of-(\d{5})\.gguf")
_SPLIT = "split."
_BLOCK = 16 << 20
"""Bytes copied at a time."""
_MAX_METADATA = 256 << 20
"""Bytes of metadata that are held in memory; a vocabulary of 262,144 tokens takes 16 MiB."""


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
    parts = [read_raw_header(path, _MAX_METADATA) for path in _part_paths(first)]
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


def _require_one_model(parts: Sequence[RawHeader]) -> None:
    total = sum(len(part.tensors) for part in parts)
    for i, part in enumerate(parts):
        numbers = part.number("split.no", 2), part.number("split.count", 2)
        if numbers != (i, len(parts)) or part.number("split.tensors.count", 4) != total:
            raise LocalmtpError(
                f"{part.path} does not belong to the other parts",
                hint="download all parts of one model",
            )


def _merged(parts: Sequence[RawHeader]) -> Iterator[bytes]:
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
