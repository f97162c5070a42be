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
