"""Files equal those of llama.cpp's converter and quantizer, byte for byte."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from localmtp.bench.lab.convert import importance, reference
from localmtp.bench.lab.convert.gguf_contents import digest, metadata, tensors
from localmtp.convert import FILE_TYPES, ConvertedFile, Options, convert
from localmtp.convert.output.imatrix import read_imatrix
from localmtp.engine.llama import ggml
from tests.convert import official
from tests.convert.checkpoints import SHAPES, write_checkpoint

MIXTURES = ("Q4_K_M", "Q3_K_L", "MXFP4_MOE")
"""Types whose choice per tensor depends on its layer and on the number of layers and experts."""

SIMPLE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q5_K_M", "Q6_K", "TQ1_0", "TQ2_0")

WEIGHTED = ("IQ2_XS", "IQ3_M", "IQ4_NL", "Q2_K_S", "Q4_K_M")
"""Types whose bytes depend on an importance matrix."""


def convert_shape(tmp_path: Path, shape: str, *quants: str, **checkpoint: object) -> list[Path]:
    source = tmp_path / reference.folder_name(shape)
    if not source.exists():
        write_checkpoint(source, shape, **checkpoint)  # type: ignore[arg-type]
    files = convert(source, tmp_path / "out", options=Options(quants=quants, force=True))
    return [file.path for file in files]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [{}, {"new_config": True, "shards": 3}], ids=["old", "new"])
def test_equals_the_recorded_result_of_the_official_converter(
    tmp_path: Path, shape: str, layout: dict[str, object]
) -> None:
    expected = official.recorded()[shape]
    paths = convert_shape(tmp_path, shape, *reference.OUTPUT_TYPES, **layout)
    digests = dict(zip(reference.OUTPUT_TYPES, map(digest, paths), strict=True))
    assert digests == expected["digests"]
    assert metadata(paths[-1]) == expected["metadata"]


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_libllamas_quantization_of_the_complete_file(tmp_path: Path, shape: str) -> None:
    quants = MIXTURES if shape != "E2B-assistant" else MIXTURES + SIMPLE
    full, *quantized = convert_shape(tmp_path, shape, "BF16", *quants)
    for quant, path in zip(quants, quantized, strict=True):
        whole = tmp_path / "whole.gguf"
        ggml.quantize_file(full, whole, FILE_TYPES[quant], importance={}, overrides=[])
        assert tensors(path) == tensors(whole), quant
        assert metadata(path) == metadata(whole), quant


@pytest.mark.parametrize(
    ("shape", "quants"), [("26B-A4B", WEIGHTED[-3:]), ("E2B-assistant", WEIGHTED)]
)
def test_an_importance_matrix_has_the_effect_it_has_in_libllama(
    tmp_path: Path, shape: str, quants: Sequence[str]
) -> None:
    [full] = convert_shape(tmp_path, shape, "BF16")
    matrix, whole = tmp_path / "imatrix.gguf", tmp_path / "whole.gguf"
    importance.draw(full, matrix)
    options = Options(quants, imatrix=matrix)
    weighted = convert(tmp_path / reference.folder_name(shape), tmp_path, options=options)
    weights = read_imatrix(matrix).weights
    for quant, file in zip(quants, weighted, strict=True):
        ggml.quantize_file(full, whole, FILE_TYPES[quant], importance=weights, overrides=[])
        assert tensors(file.path) == tensors(whole), quant


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_checkpoints_in_other_precisions_are_quantized_without_intermediate_loss(
    tmp_path: Path, dtype: str
) -> None:
    full, quantized = convert_shape(tmp_path, "E2B", dtype, "Q4_K_M", dtype=dtype)
    whole = tmp_path / "whole.gguf"
    ggml.quantize_file(full, whole, FILE_TYPES["Q4_K_M"], importance={}, overrides=[])
    assert tensors(quantized) == tensors(whole)


def test_tensor_types_can_be_overridden(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "31B")
    overrides = [("blk.0.ffn_down", "Q8_0"), ("ffn_(up|down)", "iq4_nl")]
    options = Options(quants=["BF16"])
    [full] = convert(source, tmp_path, options=options)
    [file] = convert(source, tmp_path, options=Options(overrides=overrides))
    whole = tmp_path / "whole.gguf"
    kinds = [("blk.0.ffn_down", 8), ("ffn_(up|down)", 20)]
    ggml.quantize_file(full.path, whole, FILE_TYPES["Q4_K_M"], importance={}, overrides=kinds)
    found = tensors(file.path)
    assert found == tensors(whole)
    assert found["blk.0.ffn_down.weight"][0] == "Q8_0"
    assert found["blk.1.ffn_down.weight"][0] == "IQ4_NL"


def test_size_and_hash_of_a_file_are_returned(tmp_path: Path) -> None:
    from hashlib import sha256

    source = write_checkpoint(tmp_path / "model", "E2B-assistant")
    file: ConvertedFile
    [file] = convert(source, tmp_path, options=Options(quants=["Q8_0"]))
    data = file.path.read_bytes()
    assert file.path.name == "mtp-model-Q8_0.gguf"
    [part] = file.parts
    assert (part.size, part.sha256) == (len(data), sha256(data).hexdigest())
    assert 8.5 < file.bits_per_weight < 9


def test_a_split_model_has_the_same_tensors(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "31B")
    [whole] = convert(source, tmp_path, options=Options(quants=["Q8_0"]))
    options = Options(quants=["Q8_0"], part_size=1_000_000, force=True)
    [split] = convert(source, tmp_path, options=options)
    assert [p.name for p in sorted(tmp_path.glob("*.gguf"))] == [
        f"model-Q8_0-{i}-of-00003.gguf" for i in ("00001", "00002", "00003")
    ]
    again = convert(source, tmp_path / "whole", options=Options(quants=["Q8_0"]))[0]
    found: dict[str, object] = {}
    for part in split.parts:
        assert part.size < 1_100_000
        found |= tensors(part.path)
    assert found == tensors(again.path)
    assert whole.bits_per_weight == split.bits_per_weight


@official.needs_llama_cpp
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_official_two_steps(tmp_path: Path, shape: str) -> None:
    quants = MIXTURES + SIMPLE
    quantized = convert_shape(tmp_path, shape, *quants)
    full = tmp_path / "official.gguf"
    reference.convert(tmp_path / reference.folder_name(shape), "BF16", full)
    for quant, path in zip(quants, quantized, strict=True):
        theirs = tmp_path / "theirs.gguf"
        reference.quantize(full, quant, theirs)
        assert tensors(path) == tensors(theirs), quant
        assert metadata(path) == metadata(theirs), quant


@official.needs_llama_cpp
@pytest.mark.parametrize("shape", ["E2B", "26B-A4B"])
def test_an_importance_matrix_has_the_effect_it_has_in_llama_quantize(
    tmp_path: Path, shape: str
) -> None:
    [full] = convert_shape(tmp_path, shape, "BF16")
    matrix, theirs = tmp_path / "imatrix.gguf", tmp_path / "theirs.gguf"
    importance.measure(full, matrix)
    options = Options(WEIGHTED, imatrix=matrix)
    weighted = convert(tmp_path / reference.folder_name(shape), tmp_path, options=options)
    for quant, file in zip(WEIGHTED, weighted, strict=True):
        reference.quantize(full, quant, theirs, "--imatrix", matrix)
        assert tensors(file.path) == tensors(theirs), quant
