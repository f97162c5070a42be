"""Encodes images and sound for one target, and keeps their rows within a bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.compatibility import TARGET
from localmtp.engine.media.ids import MAX_ROWS, media_ids
from localmtp.engine.threads import Threads
from localmtp.errors import LocalmtpError
from localmtp.limits import IMAGE_TOKENS, MIN_IMAGE_TOKENS
from localmtp.media import Media, RGBImage, decode_audio, decode_image

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.llama.mtmd import RowLayout, Tower

_PIECE_S = 30
"""Seconds of sound that are encoded together, as in libmtmd: the audio tower sees no farther."""

_SHORTEST = 640
"""Samples of the shortest sound: one row. Shorter ones are extended by silence."""

_MAX_PLACED = 256
"""Images and sounds whose layouts are cached."""

_MAX_BYTES = 256 << 20
"""Memory for rows: 150 images on E2B, 40 on 31B."""


@dataclass(frozen=True, slots=True)
class RowPiece:
    """Rows that were encoded together."""

    first: int
    """Number of the first of them in the image or sound."""
    rows: Floats
    """[n, width of the target]"""
    causal: bool
    """False: decoded in one pass, because all attend to each other."""
    seconds: float
    """Time that encoding took; 0 if the rows were in memory."""


@dataclass(frozen=True, slots=True)
class _MediaLayout:
    tokens: tuple[int, ...]
    layout: RowLayout
    starts: tuple[int, ...]
    """Numbers of the first rows of its pieces."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedMedia:
    """An image or sound as part of a prompt.

    Its rows are encoded when a prefill needs them, which is not the case if the KV cache holds
    them.
    """

    media: Media
    tokens: tuple[int, ...]
    """Ids in the prompt: tokens that open it, rows, tokens that close it."""
    rows: int
    """Number of rows."""
    causal: bool
    _axes: NDArray[np.int32] | None
    """See `RowLayout`."""
    _starts: tuple[int, ...]
    """Numbers of the first rows of its pieces."""
    _encoder: MediaEncoder

    def offsets(self, row: int, count: int) -> NDArray[np.int32]:
        """Returns positions relative to that of its first row.

        Args:
            row: the first of the rows.
            count: number of rows.

        Returns:
            [count], or [3, count] in time, height and width.
        """
        if self._axes is not None:
            return self._axes[:, row : row + count]
        return np.arange(row, row + count, dtype=np.int32)

    def piece(self, row: int) -> RowPiece:
        """Returns the piece with a row, encoded now if it is not in memory.

        Raises:
            LocalmtpError: it cannot be decoded or encoded.
        """
        number = max(i for i, start in enumerate(self._starts) if start <= row)
        rows, seconds = self._encoder.rows(self.media, number)
        return RowPiece(self._starts[number], rows, self.causal, seconds)


class MediaEncoder:
    """Encodes images and sound for one target. Thread-safe.

    The projector is loaded at the first image or sound.

    Args:
        open_tower: loads the projector with a number of threads.
        threads: number of compute threads, followed as it changes.
        image_tokens: most tokens of an image.
        max_pass: rows of the largest pass of the target.
    """

    def __init__(
        self,
        open_tower: Callable[[int], Tower],
        threads: Threads,
        *,
        image_tokens: int = IMAGE_TOKENS,
        max_pass: int,
    ) -> None:
        self._open_tower, self._threads = open_tower, threads
        self._image_tokens, self._max_pass = image_tokens, max_pass
        self._tower: Tower | None = None
        self._tower_threads = 0
        self._lock = threading.RLock()
        self._placed: OrderedDict[str, _MediaLayout] = OrderedDict()
        """By content, the least recently used first."""
        self._rows: OrderedDict[tuple[str, int], Floats] = OrderedDict()
        """By content and piece, the least recently used first."""
        self._decoded: tuple[str, RGBImage | Floats] | None = None
        """Content that was measured or encoded last, decoded."""

    def place(self, media: Media) -> PlacedMedia:
        """Returns an image or sound as part of a prompt; nothing is encoded.

        Raises:
            LocalmtpError: it cannot be read, the projector does not encode this kind, or it has
                more rows than a pass or a prompt can have.
        """
        with self._lock:
            found = self._placed.get(media.key)
            rate = 0 if found else self._tower_for(media).sample_rate
        if found is None:
            # Without the lock: a large image must not delay the encoding of others.
            content = _decode(media, rate)
            with self._lock:
                self._decoded = media.key, content
                found = self._measure(media)
        with self._lock:
            self._placed[media.key] = found
            self._placed.move_to_end(media.key)
            if len(self._placed) > _MAX_PLACED:
                self._placed.popitem(last=False)
        layout = found.layout
        return PlacedMedia(
            media, found.tokens, layout.rows, layout.causal, layout.axes, found.starts, self
        )

    def rows(self, media: Media, piece: int) -> tuple[Floats, float]:
        """Returns the rows of a piece, and the seconds that encoding took.

        Raises:
            LocalmtpError: it cannot be decoded or encoded.
        """
        key = media.key, piece
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return self._rows[key], 0.0
            began = perf_counter()
            rows = self._encode(media, piece)
            seconds = perf_counter() - began
            self._rows[key] = rows
            while sum(each.nbytes for each in self._rows.values()) > _MAX_BYTES:
                self._rows.popitem(last=False)
        return rows, seconds

    def close(self) -> None:
        """Frees the projector; the rows stay."""
        with self._lock:
            if self._tower:
                self._tower.close()
            self._tower = None

    def _measure(self, media: Media) -> _MediaLayout:
        tower = self._tower_for(media, encodes=False)
        content = self._content(media, tower)
        if isinstance(content, RGBImage):
            layout, starts = tower.image_layout(content.width, content.height), [0]
            self._check_image(media, content, layout)
        else:
            layout, starts = _measure_sound(tower, len(content))
        if layout.rows > MAX_ROWS:
            raise LocalmtpError(f"{media.name or 'the sound'} is too long", hint="cut it")
        # A KV cache on disk may have been written with another projector.
        made_by = f"{tower.fingerprint} {self._image_tokens}"
        ids = media_ids(f"{media.kind} {media.key} {made_by}", layout.rows, layout.positions)
        return _MediaLayout((*layout.before, *ids, *layout.after), layout, tuple(starts))

    def _check_image(self, media: Media, image: RGBImage, layout: RowLayout) -> None:
        name = media.name or "the image"
        if layout.rows > max(self._image_tokens, 2 * MIN_IMAGE_TOKENS):
            raise LocalmtpError(
                f"{name} is {image.width} x {image.height} pixels, too narrow for "
                f"{self._image_tokens} tokens",
                hint="cut it into several images",
            )
        if layout.rows > self._max_pass and not layout.causal:
            raise LocalmtpError(
                f"{name} has {layout.rows} tokens, and the largest pass {self._max_pass}",
                hint=f"allow fewer tokens, or larger passes: `--batch {layout.rows}`",
            )

    def _encode(self, media: Media, piece: int) -> Floats:
        tower = self._tower_for(media)
        content = self._content(media, tower)
        if isinstance(content, RGBImage):
            self._decoded = None
            return tower.encode_image(content.width, content.height, content.rgb)
        pieces = _pieces(len(content), tower.sample_rate)
        start, stop = pieces[piece]
        if piece == len(pieces) - 1:
            self._decoded = None
        return tower.encode_sound(_extended(content[start:stop], stop - start))

    def _content(self, media: Media, tower: Tower) -> RGBImage | Floats:
        """Decodes an image or sound; the last one stays in memory until it is encoded."""
        if self._decoded is None or self._decoded[0] != media.key:
            self._decoded = media.key, _decode(media, tower.sample_rate)
        return self._decoded[1]

    def _tower_for(self, media: Media, *, encodes: bool = True) -> Tower:
        """Loads the projector; again to encode, if the number of threads has changed."""
        tower = self._tower
        if tower is None or (encodes and self._tower_threads != self._threads.count):
            self.close()
            self._tower_threads = self._threads.count
            self._tower = tower = self._open_tower(self._tower_threads)
        if not (tower.sees if media.kind == "image" else tower.hears):
            what = "images" if media.kind == "image" else "sound"
            raise LocalmtpError(
                f"{tower.path.name} does not encode {what}",
                hint="E2B, E4B and 12B read images and sound, 26B-A4B and 31B images"
                if tower.model.architecture == TARGET
                else "",
            )
        return tower


def _decode(media: Media, rate: int) -> RGBImage | Floats:
    return decode_image(media) if media.kind == "image" else decode_audio(media, rate)


def _measure_sound(tower: Tower, samples: int) -> tuple[RowLayout, list[int]]:
    """Returns the layout of a sound and the numbers of the first rows of its pieces."""
    lengths = [stop - start for start, stop in _pieces(samples, tower.sample_rate)]
    layouts = {length: tower.sound_layout(length) for length in set(lengths)}
    starts = [0, *accumulate(layouts[length].rows for length in lengths)]
    return replace(layouts[lengths[0]], rows=starts.pop()), starts


def _pieces(samples: int, rate: int) -> list[tuple[int, int]]:
    """Divides a sound; the last piece may reach beyond its end."""
    length = _PIECE_S * rate
    return [
        (start, max(min(start + length, samples), start + _SHORTEST))
        for start in range(0, samples, length)
    ]


def _extended(samples: Floats, length: int) -> Floats:
    return samples if len(samples) == length else np.pad(samples, (0, length - len(samples)))
