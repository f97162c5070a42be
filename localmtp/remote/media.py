"""Images and sound as parts of OpenAI's messages."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from localmtp.media import Media, decode_audio, decode_image, image_size

_IMAGE_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
"""Formats that every server reads; llama.cpp's reads no WebP, OpenAI's no BMP."""

_SOUND_FORMATS = {"WAV": "wav", "MP3": "mp3"}
"""Formats of OpenAI's API."""

_RATE = 16_000


def with_media(
    turns: Sequence[Mapping[str, Any]], media: Sequence[Media], *, unchanged: bool
) -> list[dict[str, Any]]:
    """Return messages whose parts `image` and `audio` are OpenAI's, with their content.

    Args:
        turns: see `chat_turns`.
        media: of all messages, in their order.
        unchanged: whether the server reads files as we do; other servers get images upright, as
            PNG or JPEG, and sound as WAV or MP3.

    Raises:
        LocalmtpError: a file cannot be decoded.
    """
    remaining = iter(media)
    return [
        {**turn, "content": list(_parts(turn["content"], remaining, unchanged=unchanged))}
        if isinstance(turn["content"], list)
        else dict(turn)
        for turn in turns
    ]


def _parts(
    parts: Sequence[Mapping[str, Any]], media: Iterator[Media], *, unchanged: bool
) -> Iterator[Mapping[str, Any]]:
    for part in parts:
        if part["type"] == "image":
            yield _image(next(media), unchanged=unchanged)
        elif part["type"] == "audio":
            yield _sound(next(media), unchanged=unchanged)
        else:
            yield part


def _image(media: Media, *, unchanged: bool) -> dict[str, Any]:
    kind, data = _IMAGE_TYPES.get(media.format, "image/*"), media.data
    if not unchanged and (media.format not in _IMAGE_TYPES or _is_turned(media)):
        kind, data = "image/png", _png(media)
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _sound(media: Media, *, unchanged: bool) -> dict[str, Any]:
    form, data = _SOUND_FORMATS.get(media.format, media.format.lower()), media.data
    if not unchanged and media.format not in _SOUND_FORMATS:
        form, data = "wav", _wav(media)
    encoded = base64.b64encode(data).decode()
    return {"type": "input_audio", "input_audio": {"data": encoded, "format": form}}


def _is_turned(media: Media) -> bool:
    """Whether a file is turned by its metadata, which other servers do not read."""
    from PIL import Image

    size = image_size(media)
    with Image.open(io.BytesIO(media.data), formats=(media.format,)) as image:
        return image.getexif().get(0x0112, 1) != 1 or image.size != size


def _png(media: Media) -> bytes:
    from PIL import Image

    image, file = decode_image(media), io.BytesIO()
    Image.frombytes("RGB", (image.width, image.height), image.rgb).save(file, "PNG")
    return file.getvalue()


def _wav(media: Media) -> bytes:
    import numpy as np

    samples, file = decode_audio(media, _RATE), io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()
