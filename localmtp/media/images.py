"""Images decoded by Pillow, within bounds on pixels and memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from math import sqrt
from types import ModuleType
from typing import TYPE_CHECKING

from localmtp.media.files import READABLE, Media, MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 4 << 20
"""Pixels of a decoded image; larger ones are scaled. More than any vision tower reads."""

_MEGA = 1_000_000

MAX_FILE_PIXELS = 64 * _MEGA
"""Pixels of a file that has to be decoded at full size: a quarter of a gigabyte with alpha."""

MAX_SCALED_PIXELS = 256 * _MEGA
"""Pixels of a baseline JPEG, which is scaled while it is decoded."""

_ORIENTATION = 0x0112
"""EXIF tag: 1 upright, 2 to 8 mirrored or turned; from 5 on width and height are exchanged."""

_SIDEWAYS = 5

_SCALABLE = ("L", "LA", "RGB", "RGBA", "CMYK")
"""Modes whose pixels can be averaged."""


@dataclass(frozen=True, slots=True)
class RGBImage:
    """A decoded image, upright."""

    width: int
    height: int
    rgb: bytes
    """Rows of three bytes per pixel, `3 * width * height` in all."""


def image_size(media: Media) -> tuple[int, int]:
    """Returns width and height of an image in pixels, upright, from its header.

    Raises:
        MediaError: the header cannot be read, or it has too many pixels.
    """
    with _opened(media) as image:
        return _upright_size(image)


def decode_image(media: Media, *, max_pixels: int = MAX_PIXELS) -> RGBImage:
    """Decodes an image: the first frame, upright, alpha on white.

    Args:
        media: an image.
        max_pixels: larger images are scaled, JPEG while it is decoded.

    Raises:
        MediaError: it is damaged, truncated, or has too many pixels.
    """
    with _opened(media) as image:
        image = _scaled(image, max_pixels)
        image = _on_white(_upright(image))
        return RGBImage(image.width, image.height, image.tobytes())


@cache
def _pillow() -> ModuleType:
    """Imports Pillow, and turns off what it prints about damaged and large files."""
    from PIL import Image

    # A limit per format applies instead.
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


@contextmanager
def _opened(media: Media) -> Iterator[Image]:
    """Opens an image by the decoder of its format alone; turns every failure into one line."""
    pillow = _pillow()
    name = media.name or "the image"
    try:
        with pillow.open(BytesIO(media.data), formats=(media.format,)) as image:
            _check_size(media, image)
            yield image
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(f"not enough memory to decode {name}", hint="scale it down") from error
    except Exception as error:
        # Damaged files raise anything from struct.error to ZeroDivisionError in the decoders.
        raise MediaError(
            f"cannot decode {name}: damaged or truncated {media.format or 'image'}",
            hint=f"open it in another program and save it again ({READABLE})",
        ) from error


def _check_size(media: Media, image: Image) -> None:
    name = media.name or "the image"
    pixels = image.width * image.height
    scales = media.format == "JPEG" and not image.info.get("progressive")
    limit = MAX_SCALED_PIXELS if scales else MAX_FILE_PIXELS
    if not pixels:
        raise MediaError(f"{name} has no pixels", hint="choose another image")
    if pixels > limit:
        raise MediaError(
            f"{name} has {pixels / _MEGA:,.0f} megapixels, and {limit // _MEGA} can be decoded",
            hint="scale it down, or save it as a baseline JPEG",
        )


def _scaled(image: Image, max_pixels: int) -> Image:
    """Loads an image, scaled to at most `max_pixels`."""
    from PIL.Image import Resampling

    factor = sqrt(max_pixels / (image.width * image.height))
    if factor >= 1:
        image.load()
        return image
    size = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    # JPEG alone: decodes at a half, a quarter or an eighth, never smaller than `size`.
    image.draft(None, size)
    image.load()
    if image.mode not in _SCALABLE or "transparency" in image.info:
        image = _plain(image)
    return image.resize(size, Resampling.LANCZOS, reducing_gap=2.0)


def _plain(image: Image) -> Image:
    """Returns an image with 8 bits per channel, RGBA where it has transparency."""
    from PIL import Image as Images

    if image.mode.startswith("I;16"):
        import numpy as np

        high = (np.asarray(image) >> 8).astype(np.uint8)
        return Images.fromarray(high).convert("RGB")
    transparent = image.has_transparency_data
    return image.convert("RGBA" if transparent else "RGB")


def _on_white(image: Image) -> Image:
    from PIL import Image as Images

    image = _plain(image)
    if image.mode != "RGBA":
        return image
    white = Images.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _orientation(image: Image) -> int:
    """Returns the orientation of the EXIF data; 1 where they are missing or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF data do not make the picture unreadable
        return 1
    return value if isinstance(value, int) else 1


def _upright_size(image: Image) -> tuple[int, int]:
    sideways = _SIDEWAYS <= _orientation(image) <= 8
    return (image.height, image.width) if sideways else (image.width, image.height)


def _upright(image: Image) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(image))
    return image if turn is None else image.transpose(turn)
