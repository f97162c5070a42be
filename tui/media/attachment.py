"""An image or sound of a message, with what the chat shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.media import (
    Kind,
    Media,
    RGBImage,
    decode_audio,
    decode_image,
    image_size,
    load_media,
    sound_seconds,
)
from localmtp.tui.rendering.formatting import count, duration, show_controls

PICTURE_PIXELS = 256 * 256
"""Pixels of the scaled copy that previews are made from."""

MIN_NAME = 12
"""Characters of a name that are always shown."""

MEDIA_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".wav", ".mp3", ".flac", ".ogg", ".oga")
)
"""Ends of file names that are completed as images or sound. What a file is, its content says."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image or sound, and its description."""

    media: Media
    detail: str = ""
    """Pixels or seconds; empty until it was decoded."""
    picture: RGBImage | None = None
    """A scaled copy of an image; None until it was decoded, and for sound."""
    tokens: int | None = None
    """Length in the prompt; None while it is unknown."""
    is_refused: bool = False
    """Whether the model cannot read it."""

    def label(self, width: int) -> str:
        """Returns one line: name, size in pixels or seconds, bytes, tokens.

        Args:
            width: in cells; a name that is too long for it is shortened.
        """
        parts = [self.detail, file_size(len(self.media.data))]
        if self.tokens is not None:
            parts.append(count(self.tokens, "token"))
        details = "".join(f" · {part}" for part in parts if part)
        name = show_controls(self.media.name or self.media.kind)
        return shortened(name, width - len(details)) + details


def read_attachment(path: Path, kind: Kind | None = None) -> Attachment:
    """Reads and decodes an image or sound; blocking.

    Args:
        path: of the file.
        kind: that it must have; None for any.

    Raises:
        LocalmtpError: it cannot be read or decoded, or is of another kind.
    """
    media = load_media(path)
    if kind and media.kind != kind:
        command = "/image" if media.kind == "image" else "/audio"
        raise LocalmtpError(f"{media.name} is no {kind} file", hint=f"use `{command} {media.name}`")
    return described(media)


def described(media: Media) -> Attachment:
    """Decodes media and describes them; blocking.

    Raises:
        LocalmtpError: they are damaged, or too large.
    """
    if media.kind == "image":
        width, height = image_size(media)
        picture = decode_image(media, max_pixels=PICTURE_PIXELS)
        return Attachment(media, f"{width} × {height}", picture)
    decode_audio(media)
    return Attachment(media, duration(sound_seconds(media)))


def all_described(attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    """Describes attachments that were not decoded yet; damaged ones stay. Blocking."""
    return tuple(one if one.detail else _described_if_intact(one) for one in attachments)


def _described_if_intact(attachment: Attachment) -> Attachment:
    try:
        return described(attachment.media)
    except LocalmtpError:
        return attachment


def shortened(name: str, width: int) -> str:
    """Shortens a file name in the middle, so that its ending stays."""
    width = max(width, MIN_NAME)
    if len(name) <= width:
        return name
    end = min(len(Path(name).suffix) + 3, width // 2)
    return f"{name[: width - end - 1]}…{name[-end:]}"


def file_size(nbytes: int) -> str:
    """Formats the size of a file with a unit that fits."""
    if nbytes < 1000:
        return f"{nbytes} B"
    return f"{nbytes / 1e3:.1f} kB" if nbytes < 1e6 else f"{nbytes / 1e6:.1f} MB"
