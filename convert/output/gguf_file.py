"""GGUF files written front to back under a temporary name, and renamed when complete."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import Self

from gguf import GGUFWriter

from localmtp.engine.llama.ggml import Bytes
from localmtp.errors import LocalmtpError


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A complete file under its final name."""

    path: Path
    size: int
    """Bytes."""
    sha256: str


class GgufFile:
    """One GGUF model that is being written, as one file or as several parts.

    The parts are written in a hidden folder next to their destination, and `commit` renames them.
    Leaving the context without `commit` removes them.

    Args:
        destination: path of the model's file; the names of parts are derived from it.
        writer: has all metadata and tensor descriptions, and has not opened a file.

    Raises:
        LocalmtpError: on entering, if a metadata value does not fit its type.
    """

    def __init__(self, destination: Path, writer: GGUFWriter) -> None:
        self._destination = destination
        self._folder = _folder(destination)
        self._writer = writer
        self._tensors = [
            (part, name) for part, names in enumerate(writer.tensors) for name in names
        ]
        self._next = 0
        self._written = 0
        self._hashes: list[hashlib._Hash] = []

    def __enter__(self) -> Self:
        remove_unfinished(self._destination)
        self._folder.mkdir(parents=True)
        try:
            self._write_header()
        except BaseException:
            self._remove()
            raise
        return self

    def _write_header(self) -> None:
        writer = self._writer
        try:
            writer.write_header_to_file(self._folder / self._destination.name)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        except (struct.error, TypeError, ValueError, OverflowError) as error:
            raise LocalmtpError(f"cannot write the model's metadata: {error}") from error
        for file in writer.fout or ():
            writer.write_padding(file, file.tell())
            file.flush()
            self._hashes.append(hashlib.sha256(Path(file.name).read_bytes()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for file in self._writer.fout or ():
            with suppress(OSError):  # closing writes the buffer again, which a full disk refuses
                file.close()
        remove_unfinished(self._destination)

    @property
    def parts(self) -> list[Path]:
        """Temporary paths of the parts, before `commit`."""
        return [Path(file.name) for file in self._writer.fout or ()]

    def write(self, data: Bytes) -> None:
        """Append to the current tensor; once it is complete, continue with the next one."""
        part, name = self._tensors[self._next]
        self._append(part, data.data)
        self._written += data.nbytes
        size = self._writer.tensors[part][name].nbytes
        if self._written == size:
            padding = GGUFWriter.ggml_pad(size, self._writer.data_alignment) - size
            self._append(part, memoryview(bytes(padding)))
            self._next, self._written = self._next + 1, 0

    def finish(self) -> None:
        """Flush all parts to the disk and close them."""
        assert self._next == len(self._tensors)
        for file in self._writer.fout or ():
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def commit(self) -> list[WrittenFile]:
        """Rename the parts to their final names and remove the files that they replace."""
        replaced = set(existing_files(self._destination))
        files = []
        for part, digest in zip(self.parts, self._hashes, strict=True):
            final = self._destination.with_name(part.name)
            part.replace(final)
            files.append(WrittenFile(final, final.stat().st_size, digest.hexdigest()))
        for path in replaced.difference(file.path for file in files):
            path.unlink()
        return files

    def _append(self, part: int, data: memoryview) -> None:
        assert self._writer.fout is not None
        self._writer.fout[part].write(data)
        self._hashes[part].update(data)


def _folder(destination: Path) -> Path:
    """Hidden folder of a model's unfinished files."""
    return destination.with_name(f".{destination.name}.partial")


def remove_unfinished(destination: Path) -> None:
    """Remove the unfinished files that a killed run left of a model."""
    shutil.rmtree(_folder(destination), ignore_errors=True)


def existing_files(destination: Path) -> list[Path]:
    """List a model's existing files: the single file, and the parts of a split model."""
    parts = sorted(destination.parent.glob(f"{escape(destination.stem)}-?????-of-?????.gguf"))
    return [*([destination] if destination.exists() else []), *parts]


def require_disk_space(folder: Path, sizes: Sequence[int]) -> None:
    """Check the free disk space before anything is written.

    Args:
        folder: need not exist yet.
        sizes: sizes of the files in bytes.

    Raises:
        LocalmtpError: the folder's disk has less free space than the sum of the sizes.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free, needed = shutil.disk_usage(there).free, sum(sizes)
    if needed > free:
        raise LocalmtpError(
            f"{folder} has {free / 1e9:.3g} GB free, {needed / 1e9:.3g} GB are needed",
            hint="choose another --out, or fewer or smaller quantizations",
        )
