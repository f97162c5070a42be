"""Images and sound: files checked by content, and decoded to RGB and PCM.

Pillow and libsndfile are imported at the first file that needs them.
"""

from localmtp.media.files import (
    MAX_BYTES,
    READABLE,
    Kind,
    Media,
    MediaError,
    load_media,
    media_from_bytes,
)
from localmtp.media.images import RGBImage, decode_image, image_size
from localmtp.media.sound import SAMPLE_RATE, decode_audio, sound_seconds

__all__ = [
    "MAX_BYTES",
    "READABLE",
    "SAMPLE_RATE",
    "Kind",
    "Media",
    "MediaError",
    "RGBImage",
    "decode_audio",
    "decode_image",
    "image_size",
    "load_media",
    "media_from_bytes",
    "sound_seconds",
]
