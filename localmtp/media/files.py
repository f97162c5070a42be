"""Media as bytes with a kind, recognized by content, never by the name of the file."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from localmtp.errors import LocalmtpError

Kind = Literal["image", "audio"]

MAX_BYTES = 128 << 20
"""Largest file that is read: a 50-megapixel PNG, or twelve minutes of uncompressed stereo."""

READABLE = "images: PNG, JPEG, WebP, GIF, BMP; sound: WAV, MP3, FLAC, OGG"
"""The formats that can be read, for hints."""


class MediaError(LocalmtpError):
    """A file that is no image or sound that can be read."""


@dataclass(frozen=True)
class Media:
    """An image or a sound: the bytes of its file, which are decoded only where they are used."""

    kind: Kind
    data: bytes
    name: str = ""
    """Shown to the user; not a path that may be opened."""

    @cached_property
    def key(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def format(self) -> str:
        """Name of the file format, such as `PNG`."""
        return recognized(self.data)[1]

    def __repr__(self) -> str:
        return f"Media({self.kind!r}, {len(self.data)} bytes, {self.name!r})"


def recognized(data: bytes) -> tuple[Kind | None, str]:
    """Returns kind and format of a file by its first bytes; None and "" if it cannot be read."""
    for start, offset, inner, kind, name in _SIGNATURES:
        if data.startswith(start) and data[offset : offset + len(inner)] == inner:
            return kind, name
    # An MPEG frame: 11 bits of synchronization, a valid version and layer III.
    if len(data) > 3 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[1] & 0x18 != 0x08:
        return "audio", "MP3"
    return None, ""


def media_from_bytes(data: bytes, name: str = "") -> Media:
    """Returns media of the bytes of a file.

    Args:
        data: the file's content.
        name: shown to the user, also in errors.

    Raises:
        MediaError: it is empty, too large, or of another format.
    """
    shown = name or "the file"
    if not data:
        raise MediaError(f"{shown} is empty", hint=f"what can be read: {READABLE}")
    if len(data) > MAX_BYTES:
        raise _too_large(shown)
    kind, _ = recognized(data)
    if kind is None:
        raise MediaError(
            f"{shown} is no image and no sound that can be read",
            hint=f"what can be read: {READABLE}",
        )
    return Media(kind, data, name)


def load_media(path: str | os.PathLike[str]) -> Media:
    """Reads an image or a sound from a regular file; symbolic links are followed.

    Raises:
        MediaError: it is missing, unreadable, not a regular file, empty, too large, or of another
            format.
    """
    path = Path(path)
    return media_from_bytes(_content(path), path.name or str(path))


def _content(path: Path) -> bytes:
    try:
        # Opening a pipe would wait for its writer; devices may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise MediaError(f"{path} is not a regular file", hint="name an image or a sound file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise _too_large(str(path))
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"cannot read {path}: {reason}", hint="check the path") from error


def _too_large(name: str) -> MediaError:
    return MediaError(
        f"{name} is larger than {MAX_BYTES >> 20} MiB",
        hint="scale the image down, or cut or compress the sound",
    )


_SIGNATURES: tuple[tuple[bytes, int, bytes, Kind, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, b"", "image", "PNG"),
    (b"\xff\xd8\xff", 0, b"", "image", "JPEG"),
    (b"RIFF", 8, b"WEBP", "image", "WebP"),
    (b"GIF87a", 0, b"", "image", "GIF"),
    (b"GIF89a", 0, b"", "image", "GIF"),
    # Four reserved bytes of zeros: text may begin with BM.
    (b"BM", 6, b"\0\0\0\0", "image", "BMP"),
    (b"RIFF", 8, b"WAVE", "audio", "WAV"),
    (b"fLaC", 0, b"", "audio", "FLAC"),
    (b"OggS", 0, b"", "audio", "OGG"),
    (b"ID3", 0, b"", "audio", "MP3"),
)
"""First bytes, the offset of more bytes and these, the kind, the format."""
