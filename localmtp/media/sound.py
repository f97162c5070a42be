"""Sound decoded by libsndfile to mono at one sample rate, within bounds on length and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from localmtp.media.files import READABLE, Media, MediaError
from localmtp.portability import silenced_libraries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Samples per second that the audio towers read."""

MAX_SOUND_S = 3600
"""Longest sound, in seconds: 230 MB of samples."""

_RATES = (1_000, 400_000)
"""Lowest and highest sample rate of a file."""

_MAX_CHANNELS = 32

_BLOCK_SAMPLES = 1 << 20
"""Samples of all channels that are decoded together."""


def sound_seconds(media: Media) -> float:
    """Returns the length of a sound in seconds, from its header.

    Raises:
        MediaError: the header cannot be read, or the sound is too long.
    """
    with _opened_sound(media) as file:
        return float(file.frames / file.samplerate)


def decode_audio(media: Media, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Decodes a sound to mono samples, nominally -1..1; channels are averaged.

    Args:
        media: a sound.
        rate: samples per second to return.

    Raises:
        MediaError: it is damaged, truncated, empty or too long.
    """
    import numpy as np

    from localmtp.media.resampling import Resampler

    with _opened_sound(media) as file:
        resampler = Resampler(file.samplerate, rate)
        frames = max(1, _BLOCK_SAMPLES // file.channels)
        parts, left = [], MAX_SOUND_S * file.samplerate
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            left -= len(block)
            if left < 0:
                raise _too_long(media)
            with np.errstate(all="ignore"):  # damaged floats; checked below
                parts.append(resampler.feed(block.mean(axis=1, dtype=np.float32)))
        parts.append(resampler.finish())
    samples = np.concatenate(parts)
    if not len(samples):
        raise MediaError(f"{media.name or 'the sound'} has no samples", hint="record it again")
    if not np.isfinite(samples).all():
        raise _damaged_sound(media)
    return samples


@contextmanager
def _opened_sound(media: Media) -> Iterator[Any]:
    """Opens a sound; turns every failure into one line."""
    name = media.name or "the sound"
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MediaError(
            "sound cannot be read: libsndfile is not installed",
            hint="install the system's package `libsndfile`",
        ) from error
    try:
        # libsndfile's decoder of MP3 prints notes about damaged files.
        with silenced_libraries(), soundfile.SoundFile(BytesIO(media.data)) as file:
            _check_sound(media, file)
            yield file
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(f"not enough memory to decode {name}", hint="cut it") from error
    except Exception as error:
        raise _damaged_sound(media) from error


def _check_sound(media: Media, file: Any) -> None:
    name = media.name or "the sound"
    low, high = _RATES
    if not low <= file.samplerate <= high or not 1 <= file.channels <= _MAX_CHANNELS:
        raise MediaError(
            f"{name} has {file.channels} channels at {file.samplerate} Hz",
            hint="convert it to mono or stereo at 16,000 to 48,000 Hz",
        )
    if file.frames <= 0:
        raise MediaError(f"{name} has no samples", hint="record it again")
    if file.frames > MAX_SOUND_S * file.samplerate:
        raise _too_long(media)


def _too_long(media: Media) -> MediaError:
    return MediaError(
        f"{media.name or 'the sound'} is longer than {MAX_SOUND_S // 60} minutes", hint="cut it"
    )


def _damaged_sound(media: Media) -> MediaError:
    return MediaError(
        f"cannot decode {media.name or 'the sound'}: damaged {media.format or 'sound'}",
        hint=f"open it in another program and save it again ({READABLE})",
    )
