"""Pairs of files on this machine."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from tests.models.conftest import Pair


@pytest.fixture
def target(pair: Pair, tmp_path: Path) -> Path:
    path = tmp_path / "gemma-4-tiny-Q4_0.gguf"
    path.write_bytes(pair.target)
    return path


@pytest.mark.parametrize(
    "name", ["mtp-gemma-4-tiny.gguf", "MTP/gemma-4-tiny.gguf", "mtp/a.gguf", "tiny-mtp.GGUF"]
)
def test_a_drafter_next_to_the_target_is_found(target: Path, pair: Pair, name: str) -> None:
    drafter = target.parent / name
    drafter.parent.mkdir(exist_ok=True)
    drafter.write_bytes(pair.drafter)
    files = resolve(str(target))
    assert files.drafter == drafter
    assert files.why_no_drafter == ""


def test_the_matching_drafter_is_chosen(target: Path, pair: Pair, other_drafter: bytes) -> None:
    (target.parent / "mtp-a.gguf").write_bytes(other_drafter)
    (target.parent / "mtp-b.gguf").write_bytes(pair.drafter)
    assert resolve(str(target)).drafter_name == "mtp-b"


def test_a_missing_drafter_is_explained(target: Path, other_drafter: bytes) -> None:
    assert resolve(str(target)).why_no_drafter == f"no drafter was found next to {target.name}"
    assert resolve(str(target), drafter="none").why_no_drafter == "--drafter none"
    (target.parent / "mtp-a.gguf").write_bytes(other_drafter)
    assert "made for a target of embedding length 96" in resolve(str(target)).why_no_drafter


def test_lineages_are_matched_and_a_mixed_pair_gives_a_warning(
    target: Path, pair: Pair, qat_pair: Pair
) -> None:
    target.write_bytes(qat_pair.target)
    (target.parent / "mtp-gemma-4-tiny.gguf").write_bytes(pair.drafter)
    assert "does not say so" in resolve(str(target)).warnings[0]
    (target.parent / "mtp-other.gguf").write_bytes(qat_pair.drafter)
    files = resolve(str(target))
    assert files.drafter_name == "mtp-other"
    assert files.warnings == ()


def test_a_target_does_not_draft_for_itself(target: Path) -> None:
    with pytest.raises(LocalmtpError, match="cannot draft for itself"):
        resolve(str(target), drafter=str(target))


def test_a_requested_drafter_must_match(
    target: Path, other_drafter: bytes, fork_drafter: bytes
) -> None:
    offered = target.parent / "offered.gguf"
    for content, words in (
        (other_drafter, "made for a target of embedding length 96"),
        (fork_drafter, "mainline llama.cpp needs `gemma4-assistant`"),
        (b"something else altogether", "is not a GGUF file"),
    ):
        offered.write_bytes(content)
        with pytest.raises(LocalmtpError, match=words):
            resolve(str(target), drafter=str(offered))


def test_any_model_with_the_vocabulary_drafts_on_request_only(target: Path) -> None:
    offered = target.parent / "mtp-gemma-4-tiny.gguf"
    offered.write_bytes(target.read_bytes())
    assert "is not a drafter" in resolve(str(target)).why_no_drafter
    files = resolve(str(target), drafter=str(offered))
    assert files.drafter == offered
    assert "same vocabulary" in files.why_drafter


def without_windows(model: bytes) -> bytes:
    """The same file with no sliding-window layer."""
    key = b".attention.sliding_window_pattern"
    start = model.index(key) + len(key) + 8  # types of the value and of its elements
    count = int.from_bytes(model[start : start + 8], "little")
    pattern = slice(start + 8, start + 8 + count)
    assert set(model[pattern]) == {0, 1}
    return model[: pattern.start] + bytes(count) + model[pattern.stop :]


def test_models_without_sliding_windows_are_refused(target: Path, pair: Pair) -> None:
    drafter = target.parent / "mtp-gemma-4-tiny.gguf"
    drafter.write_bytes(without_windows(pair.drafter))
    command = [sys.executable, "-m", "localmtp", "run", str(target), "Hi"]
    command += ["--temp", "0", "--max-tokens", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    refusal = "has no sliding-window layer, which libllama requires of a Gemma 4\n"
    done = subprocess.run([*command, "--drafter", str(drafter)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: {drafter.name} {refusal}")
    target.write_bytes(without_windows(pair.target))
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: {target.name} {refusal}")


def test_errors_name_the_path(target: Path, pair: Pair, tmp_path: Path) -> None:
    drafter = tmp_path / "drafter.gguf"
    drafter.write_bytes(pair.drafter)
    for path, words in (
        (tmp_path / "missing.gguf", "does not exist"),
        (tmp_path, "is a directory"),
        (drafter, "is a drafter, not a target"),
    ):
        with pytest.raises(LocalmtpError, match=words):
            resolve(str(path))


def test_unknown_names_suggest_similar_ones() -> None:
    with pytest.raises(LocalmtpError) as caught:
        resolve("gema4-12b")
    assert "`gemma4-12b`" in caught.value.hint


def test_nano_and_local_pairs_need_no_hub_and_no_gguf() -> None:
    code = (
        "import sys; from localmtp.models import resolve; resolve('nano', drafter='none');"
        "print({m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {"huggingface_hub", "httpx", "gguf", "numpy", "psutil", "llama_cpp"}
