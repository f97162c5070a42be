"""Towers: encoders of images and sound, the only module that uses libmtmd.

A tower reads pixels or samples and returns rows of the target's embedding width, which a target
decodes in place of tokens.
"""

from __future__ import annotations

import ctypes
import hashlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi
from llama_cpp import mtmd_cpp as capi_mtmd
from numpy.typing import NDArray

from localmtp.engine.llama.context import Floats
from localmtp.engine.llama.library import Owned, keep_log, log_lines, reason
from localmtp.engine.llama.model import Model
from localmtp.errors import LocalmtpError
from localmtp.portability import DeferredInterrupt

capi_mtmd.mtmd_helper_log_set(keep_log, ctypes.c_void_p(0))

_MIN_IMAGE_TOKENS = 70
"""Tokens to which Gemma 4's towers enlarge smaller images, unless fewer are allowed."""

_MIN_MULTIAXIAL_TOKENS = 64
"""The same of Qwen's towers: 256 x 256 pixels, as in its own processor."""

_OTHERS = "Qwen 2 VL to Qwen 3.5 are supported; `--no-media` runs the model without images"

_HEAD = 1 << 20
"""Bytes of a file that identify it, along with its size."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Layout of an image or sound in a prompt."""

    before: tuple[int, ...]
    """Token ids that open it."""
    rows: int
    """Number of rows."""
    after: tuple[int, ...]
    """Token ids that close it."""
    causal: bool
    """False: all rows attend to each other, and must be decoded in one pass."""
    axes: NDArray[np.int32] | None = None
    """[3, rows]: positions in time, height and width relative to that of the first row; None if
    they are consecutive."""

    @property
    def positions(self) -> int:
        """Number of positions that the rows take: the token after them has the next one."""
        return self.rows if self.axes is None else 1 + int(self.axes.max())


class Tower(Owned):
    """The encoders of a projector file (`mmproj`), for one target.

    Not thread-safe. Files of an unknown origin must have passed a trial: libmtmd ends the process
    on tensors of a wrong shape.

    Args:
        path: the projector.
        model: its target; kept alive by the tower.
        threads: number of CPU threads, for as long as the tower exists.
        image_tokens: most tokens of an image.
        use_gpu: encode on a GPU, if there is one.

    Raises:
        LocalmtpError: libmtmd cannot load it; the message has its reason.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        *,
        threads: int,
        image_tokens: int,
        use_gpu: bool = True,
    ) -> None:
        params = capi_mtmd.mtmd_context_params_default()
        params.use_gpu, params.n_threads = use_gpu, threads
        params.warmup = params.print_timings = False
        params.image_max_tokens = image_tokens
        # Small images are enlarged to at least this many, rounded up per side.
        least = _MIN_MULTIAXIAL_TOKENS if model.multiaxial else _MIN_IMAGE_TOKENS
        params.image_min_tokens = min(least, image_tokens // 2)
        with DeferredInterrupt(), log_lines() as lines:
            self.handle = capi_mtmd.mtmd_init_from_file(str(path).encode(), model.handle, params)
        if not self.handle:
            raise LocalmtpError(f"cannot load the projector {path}: {reason(lines)}")
        self._finalizer = weakref.finalize(self, capi_mtmd.mtmd_free, self.handle)
        self.path, self.model = path, model
        self.fingerprint = _fingerprint(path)
        """Identifies the file: rows of another one differ."""
        self.sees: bool = capi_mtmd.mtmd_support_vision(self.handle)
        """Whether it encodes images."""
        self.hears: bool = capi_mtmd.mtmd_support_audio(self.handle)
        """Whether it encodes sound."""
        self.sample_rate: int = capi_mtmd.mtmd_get_audio_sample_rate(self.handle)
        """Samples per second of the sound that it encodes; -1 if it encodes none."""
        self.width: int = capi.llama_model_n_embd_inp(model.handle)

    def image_layout(self, width: int, height: int) -> RowLayout:
        """Returns the layout of an image of this size in pixels, without encoding one.

        Raises:
            LocalmtpError: libmtmd refuses it.
        """
        return self._layout(lambda: capi_mtmd.mtmd_bitmap_init(width, height, None))

    def sound_layout(self, samples: int) -> RowLayout:
        """Returns the layout of a sound of this length, without encoding one.

        Raises:
            LocalmtpError: libmtmd refuses it.
        """
        return self._layout(lambda: capi_mtmd.mtmd_bitmap_init_from_audio(samples, None))

    def encode_image(self, width: int, height: int, rgb: bytes) -> Floats:
        """Encodes an image.

        Args:
            width: in pixels.
            height: in pixels.
            rgb: rows of three bytes per pixel.

        Returns:
            Rows [n, width of the target].

        Raises:
            LocalmtpError: libmtmd refuses it.
        """
        if len(rgb) != 3 * width * height:
            raise ValueError(f"{len(rgb)} bytes are not {width} x {height} pixels")
        pixels = (ctypes.c_uint8 * len(rgb)).from_buffer_copy(rgb)
        return self._encode(lambda: capi_mtmd.mtmd_bitmap_init(width, height, pixels))

    def encode_sound(self, samples: Floats) -> Floats:
        """Encodes a sound of at most 30 seconds.

        Args:
            samples: mono, at `sample_rate`, nominally -1 to 1.

        Returns:
            Rows [n, width of the target].

        Raises:
            LocalmtpError: libmtmd refuses it.
        """
        samples = np.ascontiguousarray(samples, np.float32)
        data = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        return self._encode(lambda: capi_mtmd.mtmd_bitmap_init_from_audio(len(samples), data))

    def _layout(self, make: Callable[[], Any]) -> RowLayout:
        texts: list[tuple[int, ...]] = [(), ()]
        rows, causal, axes = 0, True, None
        with self._chunks(make) as chunks:
            for chunk in chunks:
                if capi_mtmd.mtmd_input_chunk_get_type(chunk):
                    axes = self._axes(chunk) if self.model.multiaxial else None
                    rows += capi_mtmd.mtmd_input_chunk_get_n_tokens(chunk)
                    causal &= not capi_mtmd.mtmd_decode_use_non_causal(self.handle, chunk)
                else:
                    texts[rows > 0] = _token_ids(chunk)
        if axes is not None and axes.shape[1] != rows:
            raise LocalmtpError(
                f"{self.path} divides images into tiles, which M-RoPE targets cannot read",
                hint=_OTHERS,
            )
        return RowLayout(texts[0], rows, texts[1], causal, axes)

    def _axes(self, chunk: Any) -> NDArray[np.int32] | None:
        """Returns the positions of an image's rows, see `RowLayout`; None for sound."""
        image = capi_mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        if not image:
            return None
        rows = capi_mtmd.mtmd_image_tokens_get_n_tokens(image)
        places = (capi_mtmd.mtmd_decoder_pos * rows)()
        capi_mtmd.mtmd_helper_image_get_decoder_pos(image, 0, places)
        axes = np.array([(place.t, place.y, place.x) for place in places], np.int32).T
        positions = capi_mtmd.mtmd_image_tokens_get_n_pos(image)
        if axes[0].any() or any(place.z for place in places) or positions != 1 + axes.max():
            raise LocalmtpError(
                f"{self.path} places images in a way that is not supported", hint=_OTHERS
            )
        return axes

    def _encode(self, make: Callable[[], Any]) -> Floats:
        parts: list[Floats] = []
        with self._chunks(make) as chunks:
            for chunk in chunks:
                if not capi_mtmd.mtmd_input_chunk_get_type(chunk):
                    continue
                with log_lines() as lines:
                    failed = capi_mtmd.mtmd_encode_chunk(self.handle, chunk)
                if failed:
                    raise LocalmtpError(f"libmtmd cannot encode it: {reason(lines)}")
                shape = capi_mtmd.mtmd_input_chunk_get_n_tokens(chunk), self.width
                output = capi_mtmd.mtmd_get_output_embd(self.handle)
                parts.append(np.ctypeslib.as_array(output, shape).copy())
        return np.concatenate(parts)

    @contextmanager
    def _chunks(self, make: Callable[[], Any]) -> Iterator[list[Any]]:
        """Divides a bitmap into text and media chunks, valid inside the block."""
        bitmap, chunks = make(), capi_mtmd.mtmd_input_chunks_init()
        try:
            part = capi_mtmd.mtmd_input_part(None, bitmap)
            parts = (ctypes.POINTER(capi_mtmd.mtmd_input_part) * 1)(ctypes.pointer(part))
            with log_lines() as lines:
                failed = capi_mtmd.mtmd_tokenize_from_parts(self.handle, chunks, parts, 1, False)
            if failed:
                raise LocalmtpError(f"libmtmd cannot read it: {reason(lines)}")
            count = capi_mtmd.mtmd_input_chunks_size(chunks)
            yield [capi_mtmd.mtmd_input_chunks_get(chunks, i) for i in range(count)]
        finally:
            capi_mtmd.mtmd_input_chunks_free(chunks)
            capi_mtmd.mtmd_bitmap_free(bitmap)


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_HEAD))
    return f"{digest.hexdigest()} {path.stat().st_size}"


def _token_ids(chunk: Any) -> tuple[int, ...]:
    size = ctypes.c_size_t()
    ids = capi_mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
    return tuple(ids[i] for i in range(size.value))
