"""Qwen 3.5: files equal those of llama.cpp's converter and quantizer, byte for byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from localmtp.bench.lab.convert import importance, reference
from localmtp.bench.lab.convert.gguf_contents import digest, metadata, tensors
from localmtp.bench.lab.convert.qwen_checkpoints import (
    QWEN_SHAPES,
    VISION_SHAPES,
    qwen_tensors,
    write_qwen,
)
from localmtp.convert import FILE_TYPES, Options, convert
from localmtp.convert.output.imatrix import read_imatrix
from localmtp.engine.llama import Batch, Context, Floats, Model, Offload, ggml
from localmtp.errors import LocalmtpError
from tests.convert import official, qwen_torch
from tests.convert.checkpoints import write_json, write_safetensors

PARTS = ("", "-mtp", "-no-mtp")
"""Suffixes of the names of recorded results."""


def edit_text(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["text_config"] |= changes
    write_json(path, config)


def convert_part(directory: Path, part: str, quants: tuple[str, ...]) -> dict[str, Path]:
    options = Options(quants, force=True, threads=1, mtp=part == "-mtp", no_mtp=part == "-no-mtp")
    files = convert(directory, directory.parent / "out", options=options)
    return {file.quant: file.path for file in files}


@pytest.mark.parametrize("shape", QWEN_SHAPES)
@pytest.mark.parametrize("part", PARTS)
def test_equals_the_recorded_result_of_the_official_converter(
    tmp_path: Path, shape: str, part: str
) -> None:
    expected = official.recorded()[f"{shape}{part}"]
    source = write_qwen(tmp_path / reference.folder_name(shape), shape, shards=2)
    paths = convert_part(source, part, reference.OUTPUT_TYPES)
    assert {quant: digest(path) for quant, path in paths.items()} == expected["digests"]
    assert metadata(paths["BF16"]) == expected["metadata"]


@pytest.mark.parametrize("shape", VISION_SHAPES)
def test_the_projector_equals_the_recorded_result(tmp_path: Path, shape: str) -> None:
    expected = official.recorded()[f"{shape}-mmproj"]
    source = write_qwen(tmp_path / reference.folder_name(shape), shape)
    options = Options(["Q8_0"], mmproj=reference.OUTPUT_TYPES, threads=1)
    files = convert(source, tmp_path / "out", options=options)
    paths = {file.quant: file.path for file in files if file.projector}
    assert {quant: digest(path) for quant, path in paths.items()} == expected["digests"]
    assert metadata(paths["BF16"]) == expected["metadata"]


@pytest.mark.parametrize("shape", ["0.8B", "35B-A3B"])
def test_equals_libllamas_quantization_of_the_complete_file(tmp_path: Path, shape: str) -> None:
    source = write_qwen(tmp_path / "model", shape)
    quants = "Q4_K_M", "Q8_0", "Q4_0", "MXFP4_MOE"
    paths = convert_part(source, "", ("BF16", *quants))
    for quant in quants:
        whole = tmp_path / "whole.gguf"
        ggml.quantize_file(paths["BF16"], whole, FILE_TYPES[quant], importance={}, overrides=[])
        assert tensors(paths[quant]) == tensors(whole), quant
        assert metadata(paths[quant]) == metadata(whole), quant


def test_an_importance_matrix_has_the_effect_it_has_in_libllama(tmp_path: Path) -> None:
    source = write_qwen(tmp_path / "model", "35B-A3B")
    full = convert_part(source, "", ("BF16",))["BF16"]
    matrix, whole = tmp_path / "imatrix.gguf", tmp_path / "whole.gguf"
    importance.draw(full, matrix)
    [file] = convert(source, tmp_path, options=Options(["IQ3_M"], imatrix=matrix, threads=1))
    weights = read_imatrix(matrix).weights
    ggml.quantize_file(full, whole, FILE_TYPES["IQ3_M"], importance=weights, overrides=[])
    assert tensors(file.path) == tensors(whole)


def test_experts_stored_one_by_one_give_the_same_file(tmp_path: Path) -> None:
    fused = write_qwen(tmp_path / "fused" / "model", "35B-A3B")
    apart = write_qwen(tmp_path / "apart" / "model", "35B-A3B", apart=True)
    paths = [convert_part(source, "", ("Q8_0",))["Q8_0"] for source in (fused, apart)]
    assert tensors(paths[0]) == tensors(paths[1])


def test_model_and_head_are_written_as_two_files(tmp_path: Path) -> None:
    source = write_qwen(tmp_path / "Tiny", "9B")
    options = Options(["Q4_K_M"], drafter_quants=["Q8_0"], mtp=True, no_mtp=True, threads=1)
    target, head = convert(source, tmp_path, options=options)
    assert (target.path.name, head.path.name) == ("Tiny-Q4_K_M.gguf", "mtp-Tiny-Q8_0.gguf")
    assert (target.drafter, head.drafter) == (False, True)
    assert not any("nextn" in name for name in tensors(target.path))
    assert {name for name in tensors(head.path) if not name.startswith("blk.8.")} == {
        "output.weight",
        "output_norm.weight",
        "token_embd.weight",
    }


def test_the_decay_is_the_exponential_in_the_order_of_the_heads(tmp_path: Path) -> None:
    source = write_qwen(tmp_path / "model", "27B-text", dtype="F32")
    path = convert_part(source, "-no-mtp", ("F32",))["F32"]
    found = next(t.data for t in GGUFReader(path).tensors if t.name == "blk.0.ssm_a")
    stored = qwen_tensors("27B-text")["model.layers.0.linear_attn.A_log"]
    # Three heads of values for each of two heads of keys.
    np.testing.assert_allclose(found, -np.exp(stored[[0, 3, 1, 4, 2, 5]]), rtol=1e-6)


def without_head(directory: Path) -> None:
    names = {n: t for n, t in qwen_tensors("9B").items() if not n.startswith("mtp.")}
    write_safetensors(directory / "model.safetensors", names, "BF16")


def splits_differently(directory: Path) -> None:
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tokenizer["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False}
    write_json(path, tokenizer)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no head": (without_head, r"has no MTP head \(tensors `mtp\.\*`\)"),
    "two heads": (lambda d: edit_text(d, mtp_num_hidden_layers=2), "has 2 MTP heads"),
    "another pre-tokenizer": (splits_differently, "splits text by another rule"),
    "fewer rows than tokens": (lambda d: edit_text(d, vocab_size=200), "config.json requires"),
    "heads that do not divide": (
        lambda d: edit_text(d, linear_num_value_heads=5),
        "invalid linear_num_value_heads: 5",
    ),
    "values of another width": (
        lambda d: edit_text(d, linear_value_head_dim=64),
        "invalid linear_value_head_dim: 64",
    ),
    "another activation": (lambda d: edit_text(d, hidden_act="gelu"), "invalid hidden_act: gelu"),
    "unknown rope": (
        lambda d: edit_text(d, rope_parameters={"rope_type": "llama3"}),
        "invalid rope_type: llama3",
    ),
    "sections that are no list": (
        lambda d: edit_text(d, rope_parameters={"mrope_section": 3}),
        "invalid mrope_section: 3",
    ),
    "layers of another type": (
        lambda d: edit_text(d, layer_types=["sliding_attention"] * 8),
        "invalid layer_types",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    source = write_qwen(tmp_path / "model", "9B")
    damage(source)
    with pytest.raises(LocalmtpError, match=message) as caught:
        convert(source, tmp_path / "out", options=Options(["Q8_0"]))
    assert "\n" not in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_lost_its_head_is_converted_without_it(tmp_path: Path) -> None:
    source = write_qwen(tmp_path / "model", "0.8B", head=False)
    with pytest.raises(LocalmtpError) as caught:
        convert(source, tmp_path / "out")
    assert "--no-mtp" in (caught.value.hint or "")
    assert convert_part(source, "-no-mtp", ("Q8_0",))


def test_other_architectures_are_left_to_llama_cpp(tmp_path: Path) -> None:
    source = write_qwen(tmp_path / "model", "9B")
    config = json.loads((source / "config.json").read_text("utf-8"))
    write_json(source / "config.json", config | {"architectures": ["DeepseekV3ForCausalLM"]})
    with pytest.raises(LocalmtpError, match="DeepseekV3ForCausalLM, which is not") as caught:
        convert(source, tmp_path / "out")
    assert "llama.cpp's convert_hf_to_gguf.py" in (caught.value.hint or "")


def test_a_drafter_is_not_needed(tmp_path: Path) -> None:
    source = write_qwen(tmp_path / "model", "9B")
    with pytest.raises(LocalmtpError, match="its MTP head in its own checkpoint"):
        convert(source, tmp_path / "out", drafter_source=source)


@official.needs_llama_cpp
@pytest.mark.parametrize("shape", QWEN_SHAPES)
@pytest.mark.parametrize("part", PARTS)
def test_equals_the_official_two_steps(tmp_path: Path, shape: str, part: str) -> None:
    source = write_qwen(tmp_path / reference.folder_name(shape), shape)
    full, theirs = tmp_path / "official.gguf", tmp_path / "theirs.gguf"
    reference.convert(source, "BF16", full, *official.HEAD_FLAGS[part])
    for quant, path in convert_part(source, part, ("Q4_K_M", "Q5_K_M", "Q8_0")).items():
        reference.quantize(full, quant, theirs)
        assert tensors(path) == tensors(theirs), quant
        assert metadata(path) == metadata(theirs), quant


@pytest.mark.parametrize("shape", qwen_torch.SHAPES)
@pytest.mark.parametrize("apart", [False, True], ids=["head in the file", "two files"])
def test_target_and_head_compute_what_they_compute_in_torch(
    tmp_path: Path, shape: str, apart: bool
) -> None:
    source = write_qwen(tmp_path / "model", shape)
    options = Options(["F32"], drafter_quants=["F32"], mtp=apart, no_mtp=apart, threads=1)
    paths = [file.path for file in convert(source, tmp_path, options=options)]
    recorded = np.load(qwen_torch.RECORDED)
    for computed, name in zip(logits(paths[0], paths[-1]), ("target", "head"), strict=True):
        expected = recorded[f"{shape} {name}"].astype(np.float32)
        assert (computed.argmax(axis=1) == expected.argmax(axis=1)).all()
        # The recording has half precision: steps of 0.002 between 2 and 4.
        np.testing.assert_allclose(computed, expected, atol=0.01)


def logits(target: Path, head: Path) -> tuple[Floats, Floats]:
    """Logits of a target, and of the head after each token with the hidden state before it."""
    tokens, sizes = qwen_torch.tokens(), {"n_ctx": 256, "threads": 1}
    rows = len(tokens)
    whole: dict[str, Any] = {**sizes, "n_batch": rows + 1, "n_outputs": rows}
    with Model(target, offload=Offload(0)) as model, Batch(rows) as batch:
        context = Context(model, all_hidden=True, **whole)
        batch.fill(tokens, 0, all_logits=True)
        context.decode(batch)
        first, hidden = context.logits().copy(), context.hidden().copy()
    with Model(head, offload=Offload(0), heads=True) as model:
        context = Context(model, head=True, all_hidden=True, **whole)
        with Batch(rows, n_embd=hidden.shape[1]) as batch:
            batch.fill(tokens, 0, all_logits=True)
            batch.hidden[0], batch.hidden[1:] = 0, hidden[:-1]
            context.decode(batch)
        return first, context.logits().copy()
