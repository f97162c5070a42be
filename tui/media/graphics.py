"""Pictures in the terminal's own graphics: Kitty's protocol and Sixel, through textual-image."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from localmtp.media import RGBImage

if TYPE_CHECKING:
    from textual.widget import Widget

    from localmtp.tui.widgets.attachment_tray import PictureWidget

ROWS = 5
"""Height of a picture, in cells."""

MAX_COLUMNS = 24

_TERMS = ("kitty", "ghostty", "foot", "wezterm", "mlterm", "contour", "sixel", "mintty", "iterm")
"""Parts of `TERM` or `TERM_PROGRAM` of terminals that have graphics."""


def picture_widget(environment: Mapping[str, str] = os.environ) -> PictureWidget | None:
    """Returns what draws pictures with the terminal's graphics; None if it has none.

    Call it before Textual starts: textual-image asks the terminal when it is imported, and reads
    the answer from standard input. Only terminals that are known to have graphics are asked,
    since others may not answer.
    """
    if not _has_graphics(environment):
        return None
    try:
        from textual_image import renderable
        from textual_image.widget import Image
    except Exception:  # noqa: BLE001 - terminals answer anything; half blocks work everywhere
        return None
    if renderable.Image not in (renderable.SixelImage, renderable.TGPImage):
        return None
    return partial(_widget, Image)


def _has_graphics(environment: Mapping[str, str]) -> bool:
    if any(map(environment.get, ("NO_COLOR", "TMUX", "STY"))):
        # Multiplexers do not pass graphics through.
        return False
    for stream in (sys.__stdin__, sys.__stdout__):
        if stream is None or stream.closed or not stream.isatty():
            return False
    names = f"{environment.get('TERM', '')} {environment.get('TERM_PROGRAM', '')}".lower()
    known = ("KITTY_WINDOW_ID", "WT_SESSION", "KONSOLE_VERSION")
    return any(one in names for one in _TERMS) or any(one in environment for one in known)


def _widget(kind: Any, picture: RGBImage) -> Widget:
    from PIL import Image

    widget: Widget = kind(Image.frombytes("RGB", (picture.width, picture.height), picture.rgb))
    # Cells are about twice as high as wide.
    columns = round(2 * ROWS * picture.width / picture.height)
    widget.styles.width = max(1, min(columns, MAX_COLUMNS))
    widget.styles.height = "auto" if columns > MAX_COLUMNS else ROWS
    return widget
