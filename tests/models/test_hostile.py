"""GGUF files that libllama would abort on, or hang on, through the real program."""

from __future__ import annotations

import struct
from math import inf, nan
from pathlib import Path

import pytest

from localmtp.models.embedded import embedded_files
from tests.models.conftest import Program
from tests.models.gguf_edit import ARRAY, FLOAT32, STRING, UINT32, Change, edited

ASK = ("hi", "--max-tokens", "2", "--threads", "1", "--temp", "0")


def one_error(stderr: str) -> str:
    """Returns the message of an error, with at most a hint and no exception behind it."""
    first, *rest = stderr.splitlines()
    assert first.startswith("error: "), stderr
    assert len(rest) <= 1, stderr
    assert "Error:" not in first
    return first


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("block_count", (UINT32, 1000)),
        ("block_count", (UINT32, 0)),
        ("block_count", (FLOAT32, nan)),
        ("context_length", (FLOAT32, inf)),
        ("context_length", None),
        ("attention.head_count", (UINT32, 0)),
        ("attention.head_count_kv", (ARRAY, (STRING, ["a"] * 6))),
        ("attention.head_count_kv", (ARRAY, (UINT32, [1] * 5))),
        ("attention.layer_norm_rms_epsilon", (FLOAT32, -1.0)),
        ("attention.layer_norm_rms_epsilon", (FLOAT32, nan)),
        ("attention.shared_kv_layers", (UINT32, 5)),
        ("rope.dimension_count", (UINT32, 256)),
        ("rope.dimension_count", (UINT32, 127)),
        ("rope.dimension_count_swa", (UINT32, 0)),
        ("rope.scaling.type", (STRING, "spiral")),
        ("expert_used_count", (UINT32, 3)),
        ("nextn_predict_layers", (UINT32, 7)),
    ],
)
def test_settings_that_libllama_asserts_on_are_refused(
    program: Program, tmp_path: Path, key: str, change: Change
) -> None:
    path = edited(tmp_path / "bad.gguf", {f"gemma4.{key}": change})
    for command in (("run", str(path), *ASK), ("show", str(path), "--offline")):
        done = program(*command)
        assert done.returncode == 1, done.stderr
        assert f"bad.gguf has a damaged GGUF header: {key}" in one_error(done.stderr)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rope.dimension_count_swa", 0, "rope.dimension_count_swa is 0"),
        ("attention.key_length", 64, "rope.dimension_count is 128"),
        ("attention.key_length_swa", 128, "its target has 64"),
    ],
)
def test_drafters_that_libllama_asserts_on_are_refused(
    program: Program, tmp_path: Path, key: str, value: int, words: str
) -> None:
    changes = {f"gemma4-assistant.{key}": (UINT32, value)}
    path = edited(tmp_path / "mtp-bad.gguf", changes, embedded_files().drafter)
    done = program("run", "nano", *ASK, "--drafter", str(path))
    assert done.returncode == 1, done.stderr
    assert words in one_error(done.stderr)


def test_a_string_length_beyond_any_offset_is_refused(program: Program, tmp_path: Path) -> None:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    header = struct.pack("<4sIQQ", b"GGUF", 3, 0, 2)
    header += text(b"general.architecture") + struct.pack("<I", STRING) + text(b"gemma4")
    header += text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, 5000)
    path = tmp_path / "bad.gguf"
    path.write_bytes(header + struct.pack("<Q", 2**63) + b"x" * 60_000)
    done = program("show", str(path), "--offline")
    assert "ends inside its GGUF header" in one_error(done.stderr)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("temp", (STRING, "abc")),
        ("temp", (FLOAT32, nan)),
        ("temp", (FLOAT32, -1.0)),
        ("top_k", (FLOAT32, 64.0)),
        ("top_k", (STRING, "-5")),
        ("top_p", (FLOAT32, inf)),
    ],
)
def test_odd_sampling_recommendations_are_ignored(
    program: Program, tmp_path: Path, key: str, change: Change
) -> None:
    path = edited(tmp_path / "odd.gguf", {f"general.sampling.{key}": change})
    done = program("run", str(path), "hi", "--max-tokens", "2", "--drafter", "none")
    assert done.returncode == 0, done.stderr
