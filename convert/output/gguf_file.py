"""GGUF files written front to back in a hidden folder, and renamed when complete."""

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
from typing import BinaryIO, Self

from gguf import GGUFWriter

from localmtp.engine.llama.ggml import Bytes
from localmtp.errors import LocalmtpError
from localmtp.portability import remove_locked_folder, try_lock

_LOCK = "lock"
_ATTEMPTS = 100
"""Attempts to lock a folder that other runs remove at the same time."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A complete file under its final name."""

    path: Path
    size: int
    """Bytes."""
    sha256: str


class WorkFolder:
    """The hidden folder in which one run writes a model, next to the model's file.

    The run holds a lock in the folder, which the operating system releases when the process ends,
    however it ends: a folder without a locked file is the rest of a killed run and is emptied.
    Leaving the context removes the folder.

    Args:
        destination: path of the model's file.

    Raises:
        LocalmtpError: on entering, if another run is writing the same file.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.path = destination.with_name(f".{destination.name}.partial")
        self._lock: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._lock = self._take_lock()
        for rest in self.path.iterdir():
            if rest.name != _LOCK:
                rest.unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._lock is not None
        remove_locked_folder(self.path, self._lock)

    def _take_lock(self) -> BinaryIO:
        for _ in range(_ATTEMPTS):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock = (self.path / _LOCK).open("ab")
            except FileNotFoundError:  # another run has just removed the folder
                continue
            if not try_lock(lock):
                lock.close()
                break
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), (self.path / _LOCK).stat()):
                    return lock
            lock.close()
        raise LocalmtpError(
            f"{self.destination.absolute()} is being written by another run",
            hint="wait until it ends, or choose another --out or --name",
        )


class GgufFile:
    """One GGUF model that is being written, as one file or as several parts.

    The parts are written in a work folder, and `commit` renames them. Leaving the context closes
    them.

    Args:
        folder: entered work folder of the model.
        writer: has all metadata and tensor descriptions, and has not opened a file.

    Raises:
        LocalmtpError: on entering, if a metadata value does not fit its type.
    """

    def __init__(self, folder: WorkFolder, writer: GGUFWriter) -> None:
        self._destination = folder.destination
        self._folder = folder.path
        self._writer = writer
        self._tensors = [
            (part, name) for part, names in enumerate(writer.tensors) for name in names
        ]
        self._next = 0
        self._written = 0
        self._hashes: list[hashlib._Hash] = []

    def __enter__(self) -> Self:
        try:
            self._write_header()
        except BaseException:
            self._close()
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
        self._close()

    def _close(self) -> None:
        for file in self._writer.fout or ():
            with suppress(OSError):  # closing writes the buffer again, which a full disk refuses
                file.close()

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
        """Rename the parts to their final names and remove the files that they replace.

        The first part is renamed last: until then, nothing loads the model.
        """
        replaced = existing_files(self._destination)
        if len(replaced) > 1:
            replaced.pop(0).unlink()
        files = []
        for part, digest in reversed(list(zip(self.parts, self._hashes, strict=True))):
            final = self._destination.with_name(part.name)
            part.replace(final)
            files.append(WrittenFile(final, final.stat().st_size, digest.hexdigest()))
        for path in set(replaced).difference(file.path for file in files):
            path.unlink()
        return files[::-1]

    def _append(self, part: int, data: memoryview) -> None:
        assert self._writer.fout is not None
        self._writer.fout[part].write(data)
        self._hashes[part].update(data)


def existing_files(destination: Path) -> list[Path]:
    """List a model's existing files: the single file, and the parts of a split model."""
    parts = sorted(destination.parent.glob(f"{escape(destination.stem)}-?????-of-?????.gguf"))
    return [*([destination] if destination.exists() else []), *parts]


def refuse_existing(files: Sequence[Path]) -> None:
    """Refuse to replace files.

    Raises:
        LocalmtpError: there is a file; the message has its absolute path.
    """
    if files:
        raise LocalmtpError(f"{files[0].absolute()} exists", hint="replace it with --force")


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
