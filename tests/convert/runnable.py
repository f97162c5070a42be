"""Tiny checkpoints whose encoders libmtmd and transformers can run, and inputs for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.convert.checkpoints import (
    full_config,
    model_tensors,
    text_config,
    values,
    write_checkpoint,
    write_json,
    write_safetensors,
)
from tests.convert.towers import TOWERS, towers

POSITIONS = 3 * 280
"""Length of the tables of positions."""

SIDE = 192
"""Pixels of the image's side: 16 x 16 tokens, so that it is not resized."""

IMAGE_TOKEN, AUDIO_TOKEN = 15, 14
"""Ids that stand for rows in transformers."""

_PROJECTIONS = "model.audio_tower.subsample_conv_projection"
_PATCH = 3 * 12 * 12
_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "E2B": {
        "model.vision_tower.patch_embedder.position_embedding_table": (2, POSITIONS, 48),
        # 32 frequencies are left of 128 mel bins, times 4 channels.
        f"{_PROJECTIONS}.layer0.conv.weight": (128, 1, 3, 3),
        f"{_PROJECTIONS}.layer0.norm.weight": (128,),
        f"{_PROJECTIONS}.layer1.conv.weight": (4, 128, 3, 3),
        f"{_PROJECTIONS}.input_proj_linear.weight": (64, 128),
    },
    "26B-A4B": {
        "model.vision_tower.patch_embedder.position_embedding_table": (2, POSITIONS, 48),
    },
    "12B": {
        "model.vision_embedder.pos_embedding": (POSITIONS, 2, 48),
        "model.vision_embedder.patch_dense.weight": (48, _PATCH),
        "model.vision_embedder.patch_ln1.weight": (_PATCH,),
        "model.vision_embedder.patch_ln1.bias": (_PATCH,),
        "model.embed_audio.embedding_projection.weight": (256, 640),
    },
}
_LIMIT = 6.0
"""Limit to which inputs and outputs of linear layers are clipped: some are, most are not."""


def write_runnable(directory: Path, shape: str) -> Path:
    """Writes a checkpoint with encoders.

    Args:
        directory: must not exist.
        shape: a key of `TOWERS`.
    """
    write_checkpoint(directory, shape)
    write_json(directory / "config.json", config(shape))
    tensors = {k: v for k, v in model_tensors(shape).items() if "embed_vision" not in k}
    encoders = towers(shape) | {name: values(name, *s) for name, s in _SHAPES[shape].items()}
    for name in encoders:
        if name.endswith(("_min", "_max")):
            sign = -1 if name.endswith("_min") else 1
            encoders[name] = np.array(sign * _LIMIT, np.float32)
    write_safetensors(directory / "model.safetensors", tensors | encoders, "BF16")
    normalization = {"image_mean": [0.5, 0.25, 0.5], "image_std": [0.5, 0.5, 0.25]}
    write_json(directory / "processor_config.json", {"image_processor": normalization})
    return directory


def config(shape: str) -> dict[str, Any]:
    """Returns config.json of a shape, complete enough for transformers."""
    sections = json.loads(json.dumps(TOWERS[shape]))
    vision, audio = sections["vision_config"], sections["audio_config"]
    vision |= {"pooling_kernel_size": 3}
    if shape == "12B":
        vision |= {"model_patch_size": 12, "mm_posemb_size": POSITIONS, "output_proj_dims": 48}
        audio |= {"audio_embed_dim": 640, "output_proj_dims": 640}
    else:
        vision |= {"position_embedding_size": POSITIONS, "head_dim": 24, "global_head_dim": 24}
        vision |= {"num_key_value_heads": 2, "use_clipped_linears": shape == "E2B"}
        vision |= {"standardize": shape != "E2B"}
    if shape == "E2B":
        audio |= {"subsampling_conv_channels": [128, 4], "output_proj_dims": 48}
    text = text_config(shape) | {"use_bidirectional_attention": "vision"}
    ids = {"image_token_id": IMAGE_TOKEN, "audio_token_id": AUDIO_TOKEN}
    complete: dict[str, Any] = full_config(shape, text) | sections | ids
    return complete


def pixels() -> NDArray[np.uint8]:
    """Returns the image: [SIDE, SIDE, 3]."""
    return np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def sound() -> NDArray[np.int16]:
    """Returns a second and a half of sound at 16 kHz: two tones and noise."""
    at = np.arange(24_000) / 16_000
    tones = np.sin(2 * np.pi * 440 * at) + np.sin(2 * np.pi * 1234 * at)
    noise = np.random.default_rng(2).normal(0, 0.1, at.size)
    return np.round(8000 * (tones + noise)).astype(np.int16)


def prompt(image: list[int], audio: list[int]) -> list[int]:
    """Returns a prompt with the ids of an image, and of a sound if there are any."""
    text = [int(i) for i in np.random.default_rng(5).integers(20, 300, 24)]
    return [2, *text[:8], *image, *text[8:14], *audio, *text[14:]]
