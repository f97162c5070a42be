"""Images: formats, orientation, transparency, bounds, damage."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from localmtp.errors import LocalmtpError
from localmtp.media import (
    Media,
    RGBImage,
    decode_image,
    image_size,
    load_media,
    media_from_bytes,
)
from tests.media.samples import encoded, gradient, hollow_png, png


def pixels(image: RGBImage) -> np.ndarray:
    return np.frombuffer(image.rgb, np.uint8).reshape(image.height, image.width, 3).astype(int)


@pytest.mark.parametrize(
    ("file_format", "tolerance"), [("PNG", 0), ("JPEG", 12), ("WEBP", 24), ("GIF", 48), ("BMP", 0)]
)
def test_every_format_is_decoded(file_format: str, tolerance: int) -> None:
    media = media_from_bytes(encoded(gradient(), file_format), "picture")
    assert (media.kind, media.format.upper()) == ("image", file_format)
    decoded = decode_image(media)
    assert image_size(media) == (decoded.width, decoded.height) == (64, 48)
    difference = np.abs(pixels(decoded) - np.asarray(gradient(), int))
    assert difference.max() <= tolerance


def test_the_first_frame_of_an_animation_is_used() -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for file_format in ("GIF", "WEBP", "PNG"):
        data = encoded(red, file_format, save_all=True, append_images=[blue])
        assert pixels(decode_image(media_from_bytes(data)))[0, 0] == pytest.approx(
            [255, 0, 0], abs=8
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(orientation: int) -> None:
    upright = gradient(64, 32)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    media = media_from_bytes(encoded(turned, "PNG", exif=exif))
    assert image_size(media) == (64, 32)
    assert pixels(decode_image(media)).tolist() == np.asarray(upright, int).tolist()


def test_damaged_exif_data_are_ignored() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(media_from_bytes(data)).width == 64


def test_transparency_is_put_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0])
    gray = Image.new("LA", (4, 4), (0, 0))
    for image, options, level in (
        (clear, {}, 255),
        (half, {}, 127),
        (gray, {}, 255),
        (palette, {"transparency": 0}, 255),
        (Image.new("RGB", (4, 4), "red"), {"transparency": (255, 0, 0)}, 255),
    ):
        for most in (16, 4):
            decoded = decode_image(
                media_from_bytes(encoded(image, "PNG", **options)), max_pixels=most
            )
            assert pixels(decoded) == pytest.approx(level, abs=1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16"])
def test_other_kinds_of_pixels_are_converted(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
        expected = 128
    else:
        image, expected = Image.new("RGB", (8, 8), "white").convert(mode), 255
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    for most in (64, 16):
        decoded = decode_image(media_from_bytes(data), max_pixels=most)
        assert pixels(decoded) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_large_images_are_scaled(file_format: str) -> None:
    media = media_from_bytes(encoded(gradient(900, 300), file_format))
    decoded = decode_image(media, max_pixels=3000)
    assert (decoded.width, decoded.height) == (94, 31)
    # The middle of a gradient stays the middle.
    assert pixels(decoded)[15, 47] == pytest.approx([128, 128, 64], abs=8)


def test_a_photograph_of_50_megapixels_is_decoded() -> None:
    data = encoded(Image.new("RGB", (8660, 5774), "teal"), "JPEG")
    decoded = decode_image(media_from_bytes(data))
    assert 3.9e6 < decoded.width * decoded.height <= 4 << 20
    assert pixels(decoded)[0, 0] == pytest.approx([0, 128, 128], abs=3)


def test_images_of_too_many_pixels_are_refused() -> None:
    for data in (hollow_png(10_000, 10_000), hollow_png(60_000, 60_000)[:2000]):
        media = media_from_bytes(data, "bomb.png")
        for use in (image_size, decode_image):
            with pytest.raises(LocalmtpError, match=r"bomb.png has .* megapixels, and 64 can be"):
                use(media)
    small = encoded(Image.new("L", (8, 8)), "JPEG", progressive=True)
    size = small.index(b"\xff\xc2") + 5
    progressive = small[:size] + b"\x23\x28" * 2 + small[size + 4 :]
    with pytest.raises(LocalmtpError, match="has 81 megapixels"):
        decode_image(media_from_bytes(progressive))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_truncated_and_damaged_images_are_refused(file_format: str) -> None:
    data = encoded(gradient(), file_format)
    generator = np.random.default_rng(0)
    for part in (0.2, 0.5, 0.8):
        with pytest.raises(LocalmtpError, match="damaged or truncated"):
            decode_image(Media("image", data[: int(len(data) * part)], "cut"))
    for _ in range(60):
        damaged = bytearray(data)
        for at in generator.integers(0, len(data), 4):
            damaged[at] = generator.integers(256)
        try:
            decode_image(Media("image", bytes(damaged), "damaged"))
        except LocalmtpError as error:
            assert "\n" not in error.message


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("only text")
    (tmp_path / "real.txt").write_bytes(png())
    (tmp_path / "link.png").symlink_to(tmp_path / "real.txt")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert load_media(tmp_path / "real.txt").key == load_media(tmp_path / "link.png").key
    assert load_media(tmp_path / "link.png").name == "link.png"
    wrong = {
        "empty.png": "empty.png is empty",
        "text.png": "text.png is no image and no sound",
        "missing.png": "cannot read .*missing.png: No such file",
        "loop.png": "cannot read .*loop.png",
        "": "is not a regular file",
        "a\0b": "cannot read",
    }
    for name, message in wrong.items():
        with pytest.raises(LocalmtpError, match=message):
            load_media(f"{tmp_path}/{name}")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_pipes_devices_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    if sys.platform == "win32":
        return
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(LocalmtpError, match="is not a regular file"):
            load_media(path)
    if os.geteuid():
        secret = tmp_path / "secret.png"
        secret.write_bytes(png())
        secret.chmod(0)
        with pytest.raises(LocalmtpError, match="Permission denied"):
            load_media(secret)


def test_a_file_larger_than_the_limit_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.write(png())
        file.truncate(1 << 40)
    with pytest.raises(LocalmtpError, match="larger than 128 MiB"):
        load_media(tmp_path / "large.png")
