"""Which file drafts is decided by what its header says, never by its name."""

from pathlib import Path

import pytest

from localmtp.engine.pair import LoadOptions, Pair
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.models.load_check import LoadCheck
from localmtp.models.memory.available import weights_on_disk
from tests.head_architectures import write_model
from tests.heads import Qwen35, write_qwen35
from tests.models.gguf_edit import UINT32, edited
from tests.pairs import TINY, write_target


def test_a_head_in_the_file_is_the_drafter(tmp_path: Path) -> None:
    path = tmp_path / "some-model.gguf"
    write_qwen35(path)
    for drafter in (None, str(path)):
        files = resolve(str(path), drafter=drafter)
        assert files.drafter == files.target == path
        assert files.drafter_name == files.why_drafter == "MTP head in the file"
        assert files.drafter_file is None
        assert weights_on_disk(files).drafter == 0  # not counted twice
    LoadCheck(files).vocabularies()
    without = resolve(str(path), drafter="none")
    assert without.drafter is None and without.why_no_drafter == "--drafter none"


def test_a_head_next_to_the_target_is_found(tmp_path: Path) -> None:
    target, head = tmp_path / "tiny.gguf", tmp_path / "mtp-tiny.gguf"
    write_qwen35(target, head=False)
    write_qwen35(head, trunk=False)
    files = resolve(str(target))
    assert files.drafter == files.drafter_file == head
    assert files.drafter_name == "mtp-tiny"
    LoadCheck(files).vocabularies()


def test_a_head_alone_is_no_target(tmp_path: Path) -> None:
    """libllama would read tensors that are not there."""
    head = tmp_path / "tiny.gguf"
    write_qwen35(head, trunk=False)
    with pytest.raises(LocalmtpError, match="holds an MTP head without its target"):
        resolve(str(head))
    with pytest.raises(LocalmtpError, match="holds an MTP head without its target"):
        Pair.load(head, None, LoadOptions(threads=1))


def test_a_head_that_was_left_out_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_qwen35(path, declared=True, head=False)
    files = resolve(str(path))
    assert files.drafter is None
    assert files.why_no_drafter == "the MTP head of tiny.gguf was left out"


def test_heads_that_libllama_does_not_run_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(path, "glm4moe", heads=2)
    reason = "libllama runs one MTP head of `glm4moe`; tiny.gguf has 2"
    assert resolve(str(path)).why_no_drafter == reason


def test_heads_that_are_run_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(path, "step35", heads=2)
    files = resolve(str(path))
    assert files.drafter == path
    assert files.drafter_name == files.why_drafter == "2 MTP heads in the file"
    LoadCheck(files).vocabularies()


@pytest.mark.parametrize("shape", [Qwen35(n_embd=32), Qwen35(moe=True)])
def test_a_head_of_another_model_is_refused(tmp_path: Path, shape: Qwen35) -> None:
    target, head = tmp_path / "tiny.gguf", tmp_path / "mtp-other.gguf"
    write_qwen35(target, head=False)
    write_qwen35(head, shape, trunk=False)
    assert resolve(str(target)).drafter is None
    with pytest.raises(LocalmtpError, match=r"embedding length 32|head of a `qwen35moe`"):
        resolve(str(target), drafter=str(head))


def test_a_head_does_not_draft_for_gemma(tmp_path: Path) -> None:
    target, head = tmp_path / "gemma.gguf", tmp_path / "mtp-qwen.gguf"
    write_target(TINY["dense"], target)
    write_qwen35(head, trunk=False)
    with pytest.raises(LocalmtpError, match=r"mtp-qwen\.gguf"):
        resolve(str(target), drafter=str(head))


@pytest.mark.parametrize("setting", ["full_attention_interval", "ssm.state_size"])
def test_settings_that_libllama_ends_the_process_on_are_refused(
    tmp_path: Path, setting: str
) -> None:
    path = tmp_path / "tiny.gguf"
    write_qwen35(path)
    hostile = edited(tmp_path / "hostile.gguf", {f"qwen35.{setting}": (UINT32, 0)}, path)
    with pytest.raises(LocalmtpError, match=r"cannot be run|cannot load"):
        LoadCheck(resolve(str(hostile))).vocabularies()
