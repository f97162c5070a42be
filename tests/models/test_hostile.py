"""GGUF files that libllama would abort on, or hang on, through the real program."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from math import inf, nan
from pathlib import Path

import pytest

from localmtp.models.embedded import embedded_files
from tests.models.conftest import Program
from tests.models.gguf_edit import ARRAY, FLOAT32, STRING, UINT32, Change, edited, strings

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
    done = program("run", str(path), *ASK)
    assert done.returncode == 1, done.stderr
    assert f"bad.gguf has a damaged GGUF header: {key}" in one_error(done.stderr)
    # Keys after the vocabulary are not read for it.
    shown = program("show", str(path), "--offline")
    assert shown.returncode == 0 or one_error(shown.stderr)


def test_a_vocabulary_of_numbers_is_refused(program: Program, tmp_path: Path) -> None:
    tokens = (ARRAY, (UINT32, [3] * 2556))
    path = edited(tmp_path / "bad.gguf", {"tokenizer.ggml.tokens": tokens})
    done = program("run", str(path), *ASK)
    assert done.returncode == 1, done.stderr
    assert "bad.gguf" in one_error(done.stderr)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rope.dimension_count_swa", 0, "rope.dimension_count_swa is 0"),
        ("attention.key_length", 64, "rope.dimension_count is 128, with keys of length 64"),
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


TOKENS = "tokenizer.ggml.tokens"


def repeated(path: Path) -> Path:
    """Writes a target in which two tokens have the text of another one."""
    tokens = strings(embedded_files().target, TOKENS)
    tokens[-1], tokens[-2] = tokens[1000], tokens[1001] + b"\0ignored"
    tokens[-3] = tokens[1001]
    return edited(path, {TOKENS: (ARRAY, (STRING, tokens))})


def test_a_vocabulary_with_a_token_twice_works(program: Program, tmp_path: Path) -> None:
    path = repeated(tmp_path / "twice.gguf")
    ask = ("Count from 1 to 5.", "--max-tokens", "16", "--temp", "0", "--threads", "1", "--json")
    expected = json.loads(program("run", "nano", *ask, "--n-draft", "0").stdout)
    for _ in range(2):  # the second time, the corrected vocabulary is known
        done = program("run", str(path), *ask)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["token_ids"] == expected["token_ids"]
    checks = sorted(p.suffix for p in program.home.rglob("load-checks/*"))
    assert checks == [".gguf", ".json"]


def test_old_corrected_vocabularies_are_removed(program: Program, tmp_path: Path) -> None:
    path = repeated(tmp_path / "twice.gguf")
    assert program("run", str(path), *ASK).returncode == 0
    (first,) = program.home.rglob("load-checks/*.gguf")
    for number in range(20):
        for suffix in (".target.gguf", ".json"):
            first.with_name(f"{number}{suffix}").write_bytes(b"")
            os.utime(first.with_name(f"{number}{suffix}"), (number, number))
    path.touch()  # another file, as far as its record says
    assert program("run", str(path), *ASK).returncode == 0
    left = sorted(first.parent.glob("*.gguf"))
    assert len(left) == 12
    assert first in left
    assert {p.name.partition(".")[0] for p in left} == {p.stem for p in first.parent.glob("*.json")}


def test_a_target_without_a_first_token_is_refused(program: Program, tmp_path: Path) -> None:
    for change, words in ((None, "is None"), ((UINT32, 70_000), "is 70000, of 2556 tokens")):
        path = edited(tmp_path / "bad.gguf", {"tokenizer.ggml.bos_token_id": change})
        done = program("run", str(path), *ASK)
        assert done.returncode == 1
        assert f"tokenizer.ggml.bos_token_id {words}" in one_error(done.stderr)


def test_an_unexpected_abort_ends_a_trial_process_only(program: Program, tmp_path: Path) -> None:
    # An assertion that no check covers.
    changes = {"gemma4-assistant.attention.value_length": None}
    path = edited(tmp_path / "mtp-bad.gguf", changes, embedded_files().drafter)
    for _ in range(2):  # a failure is not remembered
        done = program("run", "nano", *ASK, "--drafter", str(path))
        assert done.returncode == 1, done.stderr
        assert "mtp-bad.gguf cannot be run: libllama aborted" in one_error(done.stderr)


def test_an_abort_of_the_real_process_is_one_line() -> None:
    code = """
import ctypes
from localmtp.engine.llama import ggml
ggml._lib.ggml_abort(b"file.c", 7, b"%s", b"some reason")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: libllama aborted: file.c:7: some reason\n")
