"""Images and sound in requests: where their bytes are, and reading them."""

from __future__ import annotations

import asyncio
import weakref
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from fastapi.concurrency import run_in_threadpool

from localmtp.errors import LocalmtpError
from localmtp.media import Media, image_size, media_from_bytes, sound_seconds
from localmtp.serve.errors import APIError
from localmtp.serve.media.remote import DownloadError, RemoteFiles

Kind = Literal["image", "audio"]

MOST_MEDIA = 64
"""Maximum number of images and sounds in a request."""

_MOST_PIXELS = 256_000_000
"""Maximum number of pixels of all images of a request. A picture of one colour has few bytes and
takes as long to decode as any other."""

_TOKENS_PER_S = 20
"""Fewer tokens than a second of sound takes."""

_REMOTE_S = 60.0
"""Limit for all files that a request names on other servers, in seconds."""

_MOST_REMOTE = 128 << 20
"""Maximum size of all files of other servers that are in memory at a time, in bytes."""

_PIECE = 1 << 18
"""Characters of base64 that are decoded together, a multiple of 4."""

_BLANKS = dict.fromkeys(map(ord, " \t\r\n"))


_NOT_SUPPORTED = {"image": "image_url_not_supported", "audio": "input_audio_not_supported"}
"""Codes of errors, by kind: they name the part that the model does not read."""


@dataclass(frozen=True, slots=True)
class MediaSource:
    """An image or sound of a request."""

    kind: Kind
    location: str
    """An address: `data:` with the bytes in base64, `http:` or `https:`."""
    number: int
    """Place among the images, or the sounds, of the request, from 1."""

    @property
    def name(self) -> str:
        """Name in errors."""
        return f"{'image' if self.kind == 'image' else 'sound'} {self.number}"


class MediaCollector:
    """Collects the images and sounds of a request in the order of its prompt.

    Args:
        param: field of the request that has them, for errors.
    """

    def __init__(self, param: str = "messages") -> None:
        self.param = param
        self.sources: list[MediaSource] = []

    def add(self, kind: Kind, location: Any) -> None:
        """Add an image or sound.

        Raises:
            APIError: it has no address, or there are too many.
        """
        if not isinstance(location, str) or not location:
            message = f"{'image_url' if kind == 'image' else 'input_audio'} has no content"
            raise APIError(400, message, param=self.param)
        if len(self.sources) == MOST_MEDIA:
            message = f"more than {MOST_MEDIA} images and sounds"
            raise APIError(400, message, param=self.param)
        number = 1 + sum(source.kind == kind for source in self.sources)
        self.sources.append(MediaSource(kind, location, number))


class MediaReader:
    """Reads images and sounds of requests.

    Args:
        kinds: that the model reads.
        why_not: reason why it reads no others; may be empty.
        context_size: of the model, in tokens.
        remote: fetches files of other servers; None if that is not allowed.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        why_not: str,
        context_size: int,
        remote: RemoteFiles | None = None,
    ) -> None:
        self._kinds, self._why_not = kinds, why_not
        self._context_size = context_size
        self._remote = remote
        self._decoding = asyncio.Semaphore(1)
        self._held = 0
        """Bytes of files of other servers in memory."""

    async def in_turn(self, place: Callable[[Sequence[Media]], None], media: list[Media]) -> None:
        """Call `place` in a thread, for one request at a time: decoding takes memory."""
        async with self._decoding:
            await run_in_threadpool(place, media)

    async def read(self, collected: MediaCollector) -> list[Media]:
        """Read all of them; nothing is decoded beyond headers.

        Raises:
            APIError: the model does not read them, one cannot be read, or they are too large.
        """
        for source in collected.sources:
            if source.kind not in self._kinds:
                raise APIError(
                    400,
                    self._unread(source.kind),
                    param=collected.param,
                    code=_NOT_SUPPORTED[source.kind],
                )
        try:
            async with asyncio.timeout(_REMOTE_S if self._remote else None):
                media = [await self._content(each, collected.param) for each in collected.sources]
        except TimeoutError as error:
            message = f"the files did not arrive within {_REMOTE_S:.0f} seconds"
            raise APIError(
                400, message, param=collected.param, code="failed_to_download_image"
            ) from error
        if media:
            await run_in_threadpool(self._check_size, media, collected.param)
        return media

    def _unread(self, kind: Kind) -> str:
        what = "images" if kind == "image" else "sound"
        return f"the model reads no {what}" + (f": {self._why_not}" if self._why_not else "")

    async def _content(self, source: MediaSource, param: str) -> Media:
        is_remote = source.location[:5].lower() != "data:"
        if not is_remote:
            data = await run_in_threadpool(_decoded, source, param)
        else:
            data = await self._download(source, param)
        try:
            media = await run_in_threadpool(media_from_bytes, data, source.name)
        except LocalmtpError as error:
            raise media_error(error, param) from error
        if is_remote:
            self._hold(media)
        if media.kind != source.kind:
            message = f"{source.name} is {'a sound' if media.kind == 'audio' else 'an image'}"
            raise APIError(400, message, param=param, code="invalid_media")
        return media

    async def _download(self, source: MediaSource, param: str) -> bytes:
        scheme = source.location.partition(":")[0].lower()
        if scheme not in ("http", "https"):
            message = f"{source.name}: an address begins with `data:` or `https:`"
            raise APIError(400, message, param=param, code="invalid_image_url")
        if self._remote is None:
            raise APIError(
                400,
                f"{source.name} is on another server, which is not allowed here: send it as a "
                "data URL, or start the server with `--allow-remote-media`",
                param=param,
                code="invalid_image_url",
            )
        try:
            return await self._remote.fetch(source.location)
        except DownloadError as error:
            raise APIError(
                400, f"{source.name}: {error}", param=param, code="failed_to_download_image"
            ) from error

    def _hold(self, media: Media) -> None:
        """Counts a file of another server for as long as a request needs it."""
        size = len(media.data)
        if self._held + size > _MOST_REMOTE:
            busy = "too many files of other servers at the same time; try again"
            raise APIError(503, busy, headers={"Retry-After": "1"})
        self._held += size
        weakref.finalize(media, self._release, size)

    def _release(self, size: int) -> None:
        self._held -= size

    def _check_size(self, media: Sequence[Media], param: str) -> None:
        pixels, most_s = 0, self._context_size / _TOKENS_PER_S
        for each in media:
            try:
                if each.kind == "image":
                    width, height = image_size(each)
                    pixels += width * height
                else:
                    most_s -= sound_seconds(each)
            except LocalmtpError as error:
                raise media_error(error, param) from error
        if pixels > _MOST_PIXELS:
            message = f"the images have {pixels / 1e6:.0f} megapixels, more than 256"
            raise APIError(400, message, param=param, code="image_too_large")
        if most_s < 0:
            message = f"the sound does not fit a context of {self._context_size} tokens"
            raise APIError(400, message, param=param, code="context_length_exceeded")


def _decoded(source: MediaSource, param: str) -> bytes:
    """Decode a data URL."""
    head, comma, text = source.location.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        message = f"{source.name}: a data URL needs the form data:TYPE;base64,DATA"
        raise APIError(400, message, param=param, code="invalid_image_url")
    # Line breaks are rare, and the search for them takes longer than decoding.
    with suppress(Base64Error, ValueError):
        return _from_base64(text)
    try:
        return _from_base64(text.translate(_BLANKS))
    except (Base64Error, ValueError) as error:
        message = f"{source.name} is not valid base64"
        raise APIError(400, message, param=param, code="invalid_base64_image") from error


def _from_base64(text: str) -> bytes:
    """Decode in pieces: the event loop runs between them.

    Raises:
        ValueError: it is not base64.
    """
    parts = []
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        if "=" in piece and start + _PIECE < len(text):
            raise ValueError("padding in the middle")
        parts.append(b64decode(piece, validate=True))
    return b"".join(parts)


def media_error(error: LocalmtpError, param: str) -> APIError:
    """Error for an image or sound that cannot be read."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return APIError(400, message, param=param, code="invalid_media")
