"""Projector files with the settings of published ones, which are read but not run."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np


def write_projector(
    path: Path,
    width: int = 64,
    *,
    vision: str = "gemma4v",
    audio: str = "",
    architecture: str = "clip",
    output: int = 0,
) -> Path:
    """Writes a projector of a few tensors.

    Args:
        path: of the file.
        width: embedding length of the target that it is for.
        vision: type of the image encoder; empty for none.
        audio: type of the audio encoder; empty for none.
        architecture: value of `general.architecture`.
        output: rows of the projection; 0 for `width`.
    """
    writer = gguf.GGUFWriter(None, architecture)
    writer.add_type("mmproj")
    if vision:
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_vision_projector_type(vision)
        writer.add_vision_projection_dim(width)
        _matrix(writer, "mm.input_projection.weight", output or width)
    if audio:
        writer.add_clip_has_audio_encoder(True)
        writer.add_clip_audio_projector_type(audio)
        writer.add_audio_projection_dim(width)
        _matrix(writer, "mm.a.input_projection.weight", output or width)
    writer.add_tensor("padding", np.zeros(8, np.float32))
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _matrix(writer: gguf.GGUFWriter, name: str, rows: int) -> None:
    writer.add_tensor(name, np.zeros((rows, 48), np.float32))


def write_unified_projector(path: Path, width: int = 64) -> Path:
    """Writes a projector of the 12B's kind that libmtmd runs: images and sound, random weights.

    Args:
        path: of the file.
        width: embedding length of the target that it is for.
    """
    random = np.random.default_rng(7)
    inner, patch, frame = 48, 4, 640
    pixels = 3 * (3 * patch) ** 2
    writer = gguf.GGUFWriter(None, "clip")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_vision_projector_type("gemma4uv")
    writer.add_vision_projection_dim(width)
    writer.add_vision_image_size(224)
    writer.add_vision_patch_size(patch)
    writer.add_vision_embedding_length(inner)
    writer.add_vision_image_mean([0.0, 0.0, 0.0])
    writer.add_vision_image_std([1.0, 1.0, 1.0])
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_clip_has_audio_encoder(True)
    writer.add_clip_audio_projector_type("gemma4ua")
    writer.add_audio_projection_dim(width)
    writer.add_audio_embedding_length(frame)
    writer.add_audio_num_mel_bins(128)
    writer.add_audio_attention_layernorm_eps(1e-6)
    for section in ("vision", "audio"):
        for key in ("feed_forward_length", "block_count", "attention.head_count"):
            writer.add_uint32(f"clip.{section}.{key}", 0)
    shapes = {
        "v.patch_embd.weight": (inner, pixels),
        "v.patch_embd.bias": (inner,),
        "v.position_embd.weight": (2, 400, inner),
        "mm.input_projection.weight": (width, inner),
        "mm.a.input_projection.weight": (width, frame),
    }
    for number, length in ((1, pixels), (2, inner), (3, inner)):
        shapes |= {f"v.patch_norm.{number}.{what}": (length,) for what in ("weight", "bias")}
    for name, shape in shapes.items():
        writer.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
