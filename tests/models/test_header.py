"""Reading GGUF headers, valid, damaged and hostile."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from random import Random

import gguf
import pytest

from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import BadHeaderError, CutOffError, parse_header, read_header
from tests.models.conftest import Pair
from tests.pairs import TINY, write_target

STRING, ARRAY, UINT64 = 8, 9, 10


def header(*values: bytes, n_tensors: int = 0, n_values: int | None = None) -> bytes:
    count = len(values) if n_values is None else n_values
    return struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, count) + b"".join(values)


def value(key: str, kind: int, data: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + data


def test_headers_agree_with_the_reference_reader(tmp_path: Path) -> None:
    path = tmp_path / "target.gguf"
    write_target(TINY["moe"], path)
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    for key, entry in theirs.fields.items():
        if not key.startswith("GGUF."):
            expected = entry.contents()
            assert ours.values[key] == (
                tuple(expected) if isinstance(expected, list) else pytest.approx(expected)
            )
    assert [t.name for t in ours.tensors] == [t.name for t in theirs.tensors]
    assert ours.data_offset == theirs.data_offset
    for mine, reference in zip(ours.tensors, theirs.tensors, strict=True):
        assert 0 <= mine.nbytes - reference.n_bytes < 32


def test_settings_need_only_the_beginning_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "target.gguf"
    write_target(TINY["e"], path)
    size = path.stat().st_size
    beginning = path.read_bytes()[:4096]
    settings = parse_header(beginning, size, settings_only=True)
    assert settings.architecture == "gemma4"
    assert settings.n_vocab == 512
    assert settings.number("embedding_length") == 64
    with pytest.raises(CutOffError):
        parse_header(beginning, size)


@pytest.mark.parametrize(
    "hostile",
    [
        header(n_values=2**63),
        header(n_tensors=2**63),
        header(value("k", ARRAY, struct.pack("<IQ", STRING, 2**60))),
        header(value("k", ARRAY, struct.pack("<IQ", UINT64, 2**60))),
        header(value("k", ARRAY, struct.pack("<IQ", ARRAY, 1))),
        header(value("k", STRING, struct.pack("<Q", 2**62))),
        header(value("k", 99, b"")),
        header(value("k", 0, b"\0"), value("k", 0, b"\0")),
        header(value("k", STRING, struct.pack("<Q", 2) + b"\xff\xfe")),
        header(value("general.alignment", 4, struct.pack("<I", 0))),
        header(*[value("k" * 60_000, 0, b"\0")] * 400),
        header(struct.pack("<Q", 2**40)),
        b"GGUF" + struct.pack(">I", 3) + b"\0" * 16,
        b"GGML" + b"\0" * 40,
        b"\0",
    ],
)
def test_hostile_headers_are_refused(hostile: bytes) -> None:
    with pytest.raises(BadHeaderError):
        parse_header(hostile, len(hostile))


def test_an_architecture_that_is_no_name_is_unknown() -> None:
    text = struct.pack("<Q", 1000) + b"x" * 1000
    for kind, data in ((STRING, text), (ARRAY, struct.pack("<IQ", STRING, 1) + text), (7, b"\1")):
        data = header(value("general.architecture", kind, data))
        assert parse_header(data, len(data)).architecture == ""


def test_a_truncated_file_is_refused_wherever_it_ends(pair: Pair, tmp_path: Path) -> None:
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(pair.target)
    start = read_header(whole).data_offset
    for cut in (1, 4, 23, 100, 2000, start // 2, start - 1, start):
        with pytest.raises(BadHeaderError):
            parse_header(pair.target[:cut], cut)


def test_random_damage_is_read_or_refused(pair: Pair) -> None:
    random = Random(0)
    for _ in range(500):
        data = bytearray(pair.target[:20_000])
        for _ in range(random.randint(1, 8)):
            data[random.randrange(len(data))] = random.randrange(256)
        with suppress(BadHeaderError):
            parse_header(bytes(data), len(pair.target))


def test_empty_and_missing_files_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.touch()
    for path, words in ((empty, "is empty"), (tmp_path / "no.gguf", "does not exist")):
        with pytest.raises(LocalmtpError, match=words):
            read_header(path)
