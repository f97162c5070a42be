"""Image and audio encoders of every kind, for the tiny checkpoints."""

from __future__ import annotations

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

_HIDDEN = 256
_VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "pooling_kernel_size": 2,
}
_AUDIO = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

TOWERS: dict[str, dict[str, Any]] = {
    "E2B": {"vision_config": _VISION, "audio_config": _AUDIO},
    "26B-A4B": {"vision_config": _VISION, "audio_config": None},
    "12B": {
        "vision_config": {"mm_embed_dim": 48, "patch_size": 4, "pooling_kernel_size": 2},
        "audio_config": {"audio_embed_dim": 40},
    },
}
"""Shape → sections of config.json."""


def write_multimodal(directory: Path, shape: str) -> Path:
    """Write a checkpoint with its encoders.

    Args:
        directory: must not exist.
        shape: a key of TOWERS.
    """
    write_checkpoint(directory, shape)
    write_json(directory / "config.json", full_config(shape, text_config(shape)) | TOWERS[shape])
    tensors = {k: v for k, v in model_tensors(shape).items() if "embed_vision" not in k}
    write_safetensors(directory / "model.safetensors", tensors | towers(shape), "BF16")
    normalization = {"image_mean": [0.5, 0.25, 0.5], "image_std": [0.5, 0.5, 0.25]}
    write_json(directory / "processor_config.json", {"image_processor": normalization})
    return directory


def towers(shape: str) -> dict[str, NDArray[np.float32]]:
    """All encoder tensors by their Hugging Face name."""
    if shape == "12B":
        sizes = _unified()
    else:
        sizes = _vision(clipped=shape == "E2B")
        sizes |= _audio() if shape == "E2B" else {}
    return {f"model.{name}": values(name, *size) for name, size in sizes.items()}


def _unified() -> dict[str, tuple[int, ...]]:
    embedder = {
        "pos_embedding": (20, 2, 48),
        "patch_dense.weight": (48, 192),
        "patch_dense.bias": (48,),
        **{f"patch_ln1.{what}": (192,) for what in ("weight", "bias")},
        **{f"patch_ln2.{what}": (48,) for what in ("weight", "bias")},
        **{f"pos_norm.{what}": (48,) for what in ("weight", "bias")},
    }
    return {
        **{f"vision_embedder.{name}": size for name, size in embedder.items()},
        "embed_vision.embedding_projection.weight": (_HIDDEN, 48),
        "embed_audio.embedding_projection.weight": (_HIDDEN, 40),
    }


def _linear(name: str, rows: int, columns: int, *, clipped: bool) -> dict[str, tuple[int, ...]]:
    limits = [f"{side}_{end}" for side in ("input", "output") for end in ("min", "max")]
    return {
        f"{name}.linear.weight": (rows, columns),
        **({f"{name}.{limit}": () for limit in limits} if clipped else {}),
    }


def _vision(*, clipped: bool) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {
        "vision_tower.patch_embedder.position_embedding_table": (2, 20, 48),
        "vision_tower.patch_embedder.input_proj.weight": (48, 48),
        "embed_vision.embedding_projection.weight": (_HIDDEN, 48),
    }
    if not clipped:
        sizes |= {f"vision_tower.{name}": (48,) for name in ("std_bias", "std_scale")}
    for i in range(2):
        layer = f"vision_tower.encoder.layers.{i}"
        for name in "qkvo":
            sizes |= _linear(f"{layer}.self_attn.{name}_proj", 48, 48, clipped=clipped)
        sizes |= {f"{layer}.self_attn.{name}_norm.weight": (24,) for name in "qk"}
        for name in ("gate", "up"):
            sizes |= _linear(f"{layer}.mlp.{name}_proj", 96, 48, clipped=clipped)
        sizes |= _linear(f"{layer}.mlp.down_proj", 48, 96, clipped=clipped)
        norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        sizes |= {f"{layer}.{norm}_layernorm.weight": (48,) for norm in norms}
    return sizes


def _audio() -> dict[str, tuple[int, ...]]:
    stem = "audio_tower.subsample_conv_projection"
    sizes: dict[str, tuple[int, ...]] = {
        f"{stem}.layer0.conv.weight": (8, 1, 3, 3),
        f"{stem}.layer0.norm.weight": (8,),
        f"{stem}.layer1.conv.weight": (4, 8, 3, 3),
        f"{stem}.layer1.norm.weight": (4,),
        f"{stem}.input_proj_linear.weight": (64, 8),
        "audio_tower.output_proj.weight": (48, 64),
        "audio_tower.output_proj.bias": (48,),
        "embed_audio.embedding_projection.weight": (_HIDDEN, 48),
    }
    for i in range(2):
        layer = f"audio_tower.layers.{i}"
        for block in ("feed_forward1", "feed_forward2"):
            sizes |= _linear(f"{layer}.{block}.ffw_layer_1", 256, 64, clipped=True)
            sizes |= _linear(f"{layer}.{block}.ffw_layer_2", 64, 256, clipped=True)
            sizes |= {f"{layer}.{block}.{n}_layer_norm.weight": (64,) for n in ("pre", "post")}
        for name in ("q_proj", "k_proj", "v_proj", "post"):
            sizes |= _linear(f"{layer}.self_attn.{name}", 64, 64, clipped=True)
        sizes |= _linear(f"{layer}.lconv1d.linear_start", 128, 64, clipped=True)
        sizes |= _linear(f"{layer}.lconv1d.linear_end", 64, 64, clipped=True)
        sizes |= {
            f"{layer}.self_attn.per_dim_scale": (32,),
            f"{layer}.self_attn.relative_k_proj.weight": (64, 64),
            f"{layer}.lconv1d.depthwise_conv1d.weight": (64, 1, 5),
        }
        norms = ["lconv1d.pre_layer_norm", "lconv1d.conv_norm"]
        norms += ["norm_pre_attn", "norm_post_attn", "norm_out"]
        sizes |= {f"{layer}.{norm}.weight": (64,) for norm in norms}
    return sizes
