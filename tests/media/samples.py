"""Images and sounds made for tests."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import soundfile
from PIL import Image


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    """Returns red growing to the right and green growing downwards, on blue 64."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    pixels[..., 2] = 64
    return Image.fromarray(pixels)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Returns the bytes of an image file."""
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png(width: int = 64, height: int = 48) -> bytes:
    """Returns a small PNG."""
    return encoded(gradient(width, height), "PNG")


def hollow_png(width: int, height: int) -> bytes:
    """Returns a PNG of black pixels that is small for its size: a decompression bomb."""
    row = b"\0" * ((width + 7) // 8 + 1)
    compressor = zlib.compressobj(1)
    body = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND")


def _chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """Returns a sine wave of amplitude 0.5."""
    at = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def sound(samples: np.ndarray, rate: int = 16_000, file_format: str = "WAV") -> bytes:
    """Returns the bytes of a sound file."""
    file = BytesIO()
    soundfile.write(file, samples, rate, format=file_format)
    return file.getvalue()
