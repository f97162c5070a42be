"""Sound: formats, resampling, bounds, damage."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from localmtp.errors import LocalmtpError
from localmtp.media import Media, decode_audio, media_from_bytes, sound_seconds
from localmtp.media.resampling import Resampler
from tests.media.samples import sound, tone


@pytest.mark.parametrize(
    ("file_format", "tolerance"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.05), ("MP3", 0.05)]
)
def test_every_sound_format_is_decoded(file_format: str, tolerance: float) -> None:
    media = media_from_bytes(sound(tone(), 16_000, file_format), "sound")
    assert (media.kind, media.format) == ("audio", file_format)
    samples = decode_audio(media)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(16_000, abs=2304)
    assert sound_seconds(media) == pytest.approx(len(samples) / 16_000)
    # Apart from the ends, which encoders smooth.
    assert np.abs(samples[2000:14_000] - tone()[2000:14_000]).max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 44_099])
def test_sound_is_resampled(rate: int) -> None:
    samples = decode_audio(media_from_bytes(sound(tone(1.0, rate, 440.0), rate)))
    assert len(samples) == 16_000
    assert np.abs(samples[500:-500] - tone()[500:-500]).max() < 1e-3


def test_frequencies_that_the_lower_rate_cannot_hold_are_removed() -> None:
    samples = decode_audio(media_from_bytes(sound(tone(1.0, 48_000, 9_000.0), 48_000)))
    assert np.abs(samples[500:-500]).max() < 1e-3


def test_blocks_of_any_size_give_the_same_samples() -> None:
    input_ = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)
    whole = Resampler(44_100, 16_000)
    expected = np.concatenate((whole.feed(input_), whole.finish()))
    for size in (1, 7, 441, 4_999):
        parts = Resampler(44_100, 16_000)
        blocks = [parts.feed(input_[at : at + size]) for at in range(0, 5_000, size)]
        assert np.abs(np.concatenate((*blocks, parts.finish())) - expected).max() < 1e-5


def test_channels_are_averaged() -> None:
    stereo = np.stack((tone(), np.zeros_like(tone())), axis=1)
    assert np.abs(decode_audio(media_from_bytes(sound(stereo))) - tone() / 2).max() < 1e-4


def test_floating_point_wav_is_read() -> None:
    data = tone().tobytes()
    header = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    wav = b"WAVEfmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(data))
    media = media_from_bytes(b"RIFF" + struct.pack("<I", len(wav) + len(data)) + wav + data)
    assert np.array_equal(decode_audio(media), tone())


def test_sound_without_samples_or_too_long_is_refused() -> None:
    with pytest.raises(LocalmtpError, match=r"silence.wav has no samples"):
        decode_audio(media_from_bytes(sound(np.zeros(0, np.float32)), "silence.wav"))
    hours = media_from_bytes(sound(np.zeros(3_700_000, np.int16), 1_000, "FLAC"), "hours.flac")
    for use in (decode_audio, sound_seconds):
        with pytest.raises(LocalmtpError, match=r"hours.flac is longer than 60 minutes"):
            use(hours)


def test_sound_that_is_no_number_is_refused() -> None:
    samples = tone()
    samples[7] = np.nan
    data = bytearray(sound(tone()))
    header = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    data = bytearray(
        b"RIFF\0\0\0\0WAVEfmt "
        + struct.pack("<I", 16)
        + header
        + b"data"
        + struct.pack("<I", samples.nbytes)
        + samples.tobytes()
    )
    with pytest.raises(LocalmtpError, match=r"cannot decode nan.wav: damaged WAV"):
        decode_audio(Media("audio", bytes(data), "nan.wav"))


@pytest.mark.parametrize("file_format", ["WAV", "FLAC", "OGG", "MP3"])
def test_damaged_sound_never_raises_anything_else(file_format: str) -> None:
    data = sound(tone(0.3), 16_000, file_format)
    generator = np.random.default_rng(0)
    with pytest.raises(LocalmtpError, match=r"damaged|no samples"):
        decode_audio(Media("audio", data[:30], "cut"))
    for _ in range(60):
        damaged = bytearray(data[: generator.integers(40, len(data))])
        for at in generator.integers(0, len(damaged), 4):
            damaged[at] = generator.integers(256)
        try:
            decode_audio(Media("audio", bytes(damaged), "damaged"))
        except LocalmtpError as error:
            assert "\n" not in error.message


def test_a_damaged_mp3_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """libsndfile's decoder notes every damaged frame on standard error, from C."""
    data = bytearray(sound(tone(), 16_000, "MP3"))
    data[600:700] = bytes(100)
    assert len(decode_audio(media_from_bytes(bytes(data))))
    assert capfd.readouterr().err == ""
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"
