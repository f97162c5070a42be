"""Writes exported conversations and their media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from localmtp.atomic import atomic_write_bytes
from localmtp.errors import LocalmtpError

MAX_NAMED = 2
"""Paths that are named; others are counted."""


def overwritten(files: Mapping[Path, bytes]) -> list[Path]:
    """Returns the paths that exist with other content; blocking."""
    return [path for path, data in files.items() if path.exists() and not _equals(path, data)]


def written(files: Mapping[Path, bytes]) -> bool:
    """Writes files, with their folders; blocking.

    Returns:
        True.

    Raises:
        LocalmtpError: one cannot be written.
    """
    for path, data in files.items():
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise LocalmtpError(
                f"cannot write {path}: {error.strerror or error}", hint="choose another folder"
            ) from error
        atomic_write_bytes(path, data)
    return True


def listing(paths: Sequence[Path]) -> str:
    """Names the first paths and counts the others."""
    named = " and ".join(map(str, paths[:MAX_NAMED]))
    more = len(paths) - MAX_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _equals(path: Path, data: bytes) -> bool:
    try:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False
