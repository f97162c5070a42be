"""Files written so that a reader finds the old content or the new one, never a part."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from localmtp.errors import LocalmtpError

_DESCRIPTORS = ("/dev/fd/", "/dev/std", "/proc/")
"""Names of open files: a rename would replace the file behind the descriptor's back."""

_MOST_LINKS = 40
"""Links followed, as Linux does, before a path counts as a loop."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Opens a temporary file next to `path`, and renames it to `path` when the block succeeds.

    A symbolic link is followed, and the file that it names replaced; permissions are preserved. A
    target that is not a regular file (a device, a pipe, `/dev/stdout`) is written in place. If the
    block raises, `path` is unchanged and the temporary file removed.

    Args:
        path: of the file; its folder must exist.
        durable: whether the data must be on the disk before the rename, so that not even a power
            cut leaves an empty file.

    Yields:
        The file, opened for writing bytes; its `name` is the path of the temporary file.

    Raises:
        LocalmtpError: an `OSError` occurred, also one raised by the block.
    """
    try:
        target = _replaceable(path)
        if target is None:
            with path.open("ab") as file:
                yield file
        else:
            with _replacing(target, durable=durable) as file:
                yield file
    except OSError as error:
        raise LocalmtpError(f"cannot write {path}: {error.strerror or error}") from error


def atomic_write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces the content of a file, as `atomic_write` does.

    Raises:
        LocalmtpError: it cannot be written.
    """
    with atomic_write(path, durable=durable) as file:
        file.write(data)


def atomic_write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replaces the content of a file with UTF-8 text, as `atomic_write` does.

    Lone surrogates are written as `?`.

    Raises:
        LocalmtpError: it cannot be written.
    """
    atomic_write_bytes(path, text.encode(errors="replace"), durable=durable)


def _replaceable(path: Path) -> Path | None:
    """The file that a rename may replace or create; None if `path` must be written in place."""
    current = path.absolute()
    for _ in range(_MOST_LINKS):
        if current.as_posix().startswith(_DESCRIPTORS):
            return None
        if not current.is_symlink():
            break
        current = current.parent / current.readlink()
    try:
        return current if stat.S_ISREG(current.stat().st_mode) else None
    except FileNotFoundError:
        return current


@contextmanager
def _replacing(target: Path, *, durable: bool) -> Iterator[BinaryIO]:
    temporary = target.with_name(f".localmtp-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
