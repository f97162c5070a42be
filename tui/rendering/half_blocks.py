"""Pictures as coloured half blocks: two pixels in each cell."""

from __future__ import annotations

from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style

from localmtp.media import RGBImage
from localmtp.tui.rendering.brush import Line


def half_blocks(picture: RGBImage, columns: int, rows: int) -> list[Line]:
    """Draws a picture in at most `columns` by `rows` cells, in its own proportions."""
    width, height = fitted(picture, columns, rows)
    rgb = _scaled(picture, width, height)
    lines = []
    for y in range(0, height, 2):
        line = []
        for x in range(width):
            upper, lower = (3 * (row * width + x) for row in (y, y + 1))
            style = Style(color=_colour(rgb, upper), bgcolor=_colour(rgb, lower))
            line.append(Segment("▀", style))
        lines.append(line)
    return lines


def fitted(picture: RGBImage, columns: int, rows: int) -> tuple[int, int]:
    """Returns width and height in half blocks; the height is even."""
    factor = min(columns / picture.width, 2 * rows / picture.height, 1.0)
    width = max(1, round(picture.width * factor))
    height = max(2, 2 * round(picture.height * factor / 2))
    return min(width, columns), min(height, 2 * rows)


def _scaled(picture: RGBImage, width: int, height: int) -> bytes:
    from PIL import Image

    image = Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)
    return image.resize((width, height), Image.Resampling.BOX).tobytes()


def _colour(rgb: bytes, at: int) -> Color:
    return Color.from_triplet(ColorTriplet(*rgb[at : at + 3]))
