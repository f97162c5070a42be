"""`--mmproj`: projectors equal those that llama.cpp's converter writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from localmtp.bench.lab.convert import reference
from localmtp.bench.lab.convert.gguf_contents import digest, metadata
from localmtp.convert import Options, convert
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from tests.convert import official
from tests.convert.checkpoints import model_tensors, values, write_checkpoint, write_safetensors
from tests.convert.towers import TOWERS, towers, write_multimodal


def convert_towers(tmp_path: Path, shape: str) -> dict[str, Path]:
    """Type → projector."""
    source = write_multimodal(tmp_path / reference.folder_name(shape), shape)
    types = reference.OUTPUT_TYPES
    options = Options(quants=["Q8_0"], mmproj=types, threads=1)
    files = convert(source, tmp_path / "out", options=options)
    return {file.quant: file.path for file in files if file.projector}


def without_gelu(path: Path) -> dict[str, object]:
    """Metadata without the activation, which llama.cpp's converter leaves out."""
    found = metadata(path)
    assert ("clip.use_gelu" in found) == (found["clip.vision.projector_type"][1] == "gemma4v")
    return {key: value for key, value in found.items() if key != "clip.use_gelu"}


@pytest.mark.parametrize("shape", TOWERS)
def test_equals_the_recorded_result_of_the_official_converter(tmp_path: Path, shape: str) -> None:
    expected = official.recorded()[f"{shape}-mmproj"]
    paths = convert_towers(tmp_path, shape)
    assert paths["F16"].name == f"mmproj-gemma-4-{shape}-it-F16.gguf"
    assert {kind: digest(path) for kind, path in paths.items()} == expected["digests"]
    assert without_gelu(paths["BF16"]) == expected["metadata"]


@official.needs_llama_cpp
@pytest.mark.parametrize("shape", TOWERS)
def test_equals_the_official_converter(tmp_path: Path, shape: str) -> None:
    for kind, path in convert_towers(tmp_path, shape).items():
        theirs = tmp_path / "theirs.gguf"
        reference.convert(tmp_path / reference.folder_name(shape), kind, theirs, "--mmproj")
        assert digest(path) == digest(theirs), kind
        assert without_gelu(path) == metadata(theirs), kind


def test_a_converted_target_is_paired_with_its_projector(tmp_path: Path) -> None:
    source = write_multimodal(tmp_path / "tiny-it", "E2B")
    options = Options(quants=["Q8_0"], mmproj=["F16", "BF16"], threads=1)
    target, *projectors = convert(source, tmp_path / "out", options=options)
    assert not target.projector
    found = resolve(str(target.path))
    assert found.projector in [file.path for file in projectors]
    assert found.projector == tmp_path / "out" / "mmproj-tiny-it-F16.gguf"
    assert found.media == ("image", "audio")


def test_per_dimension_scales_are_softplus_of_the_stored_values(tmp_path: Path) -> None:
    path = convert_towers(tmp_path, "E2B")["F16"]
    found = next(t for t in GGUFReader(path).tensors if t.name == "a.blk.1.per_dim_scale.weight")
    stored = towers("E2B")["model.audio_tower.layers.1.self_attn.per_dim_scale"]
    cut = (stored.view(np.uint32) >> 16 << 16).view(np.float32)
    np.testing.assert_allclose(found.data, np.log(1 + np.exp(cut)), rtol=1e-6)


def test_a_checkpoint_without_encoders_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", "31B")
    for options, words in (
        (Options(mmproj=["F16"]), "has no image or audio encoder"),
        (Options(mmproj=["Q4_0"]), "a projector cannot be written as Q4_0"),
    ):
        with pytest.raises(LocalmtpError, match=words):
            convert(source, tmp_path / "out", options=options)
    multimodal = write_multimodal(tmp_path / "multimodal", "26B-A4B")
    (multimodal / "processor_config.json").unlink()
    with pytest.raises(LocalmtpError, match="with which images are normalized"):
        convert(multimodal, tmp_path / "out", options=Options(quants=["F16"], mmproj=["F16"]))
    assert not list((tmp_path / "out").glob("mmproj*"))


@pytest.mark.parametrize("damage", [(7,), (8, 8)])
def test_encoders_with_other_shapes_are_refused(tmp_path: Path, damage: tuple[int, ...]) -> None:
    source = write_multimodal(tmp_path / "multimodal", "12B")
    tensors = model_tensors("12B") | towers("12B")
    for name in ("pos_embedding", "patch_dense.weight"):
        full_name = f"model.vision_embedder.{name}"
        broken = tensors | {full_name: values(name, *damage)}
        write_safetensors(source / "model.safetensors", broken, "BF16")
        options = Options(quants=["F16"], mmproj=["F16"])
        with pytest.raises(LocalmtpError, match=name.replace(".", r"\.")):
            convert(source, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
