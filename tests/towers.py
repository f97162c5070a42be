"""Generated projectors of Gemma 4's and Qwen 3.5's kinds, tiny and with random weights.

Tensors are named and shaped as in published files, so that libmtmd runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

PATCH, SIDE = 4, 3
"""Pixels of a patch's side, and patches of a token's side."""

_VISION, _AUDIO = 48, 64
_LAYERS, _HEADS, _MEL_BINS, _FRAME = 2, 2, 128, 640

KINDS = {
    "e2b": ("gemma4v", "gemma4a"),
    "26b-a4b": ("gemma4v", ""),
    "12b": ("gemma4uv", "gemma4ua"),
    "sound": ("", "gemma4a"),
}
"""Kind of a projector → types of its image and audio encoders."""

_OTHER_KINDS = {"qwen": ("qwen3vl_merger", "")}
"""Of targets other than Gemma 4."""

Tensors = Iterator[tuple[str, NDArray[np.float32]]]


def write_towers(
    path: Path,
    kind: str = "e2b",
    *,
    width: int = 256,
    positions: int = 3 * 1120,
    transposed: str = "",
) -> Path:
    """Writes a projector.

    Args:
        path: of the file.
        kind: a key of `KINDS`, or `qwen`.
        width: embedding length of the target; 256 is that of nano.
        positions: length of the table of positions.
        transposed: name of a matrix that is stored in a wrong shape.
    """
    vision, audio = (KINDS | _OTHER_KINDS)[kind]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    tensors: dict[str, NDArray[np.float32]] = {}
    if vision:
        _vision_settings(writer, vision, width)
        tensors |= dict(_vision_tensors(vision, width, positions))
    if audio:
        _audio_settings(writer, audio, width)
        tensors |= dict(_audio_tensors(audio, width))
    for name, data in tensors.items():
        writer.add_tensor(name, data.T.copy() if name == transposed else data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vision_settings(writer: gguf.GGUFWriter, kind: str, width: int) -> None:
    layers = _LAYERS if kind in ("gemma4v", "qwen3vl_merger") else 0
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_vision_projector_type(kind)
    writer.add_vision_projection_dim(width)
    writer.add_vision_image_size(224)
    writer.add_vision_patch_size(16 if kind == "qwen3vl_merger" else PATCH)
    if kind == "qwen3vl_merger":
        writer.add_vision_use_gelu(True)
        writer.add_vision_spatial_merge_size(2)
        writer.add_vision_is_deepstack_layers([False] * layers)
    writer.add_vision_embedding_length(_VISION)
    writer.add_vision_feed_forward_length(2 * _VISION if layers else 0)
    writer.add_vision_block_count(layers)
    writer.add_vision_head_count(_HEADS if layers else 0)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_attention_layernorm_eps(1e-6)


def _audio_settings(writer: gguf.GGUFWriter, kind: str, width: int) -> None:
    layers = _LAYERS if kind == "gemma4a" else 0
    writer.add_clip_has_audio_encoder(True)
    writer.add_clip_audio_projector_type(kind)
    writer.add_audio_projection_dim(width)
    writer.add_audio_embedding_length(_AUDIO if layers else _FRAME)
    writer.add_audio_feed_forward_length(4 * _AUDIO if layers else 0)
    writer.add_audio_block_count(layers)
    writer.add_audio_head_count(_HEADS if layers else 0)
    writer.add_audio_num_mel_bins(_MEL_BINS)
    writer.add_audio_attention_layernorm_eps(1e-6)


def _vision_tensors(kind: str, width: int, positions: int) -> Tensors:
    if kind == "qwen3vl_merger":
        yield from _qwen_tensors(width)
        return
    n = _VISION
    yield "mm.input_projection.weight", _matrix("mm.v", width, n)
    yield "v.position_embd.weight", _matrix("v.pos", 2, positions, n)
    if kind == "gemma4uv":
        pixels = 3 * (PATCH * SIDE) ** 2
        yield "v.patch_embd.weight", _matrix("v.patch", n, pixels)
        yield "v.patch_embd.bias", _vector(n)
        for name, length in (("1", pixels), ("2", n), ("3", n)):
            yield f"v.patch_norm.{name}.weight", _vector(length)
            yield f"v.patch_norm.{name}.bias", _vector(length)
        return
    yield "v.patch_embd.weight", _matrix("v.patch", n, 3, PATCH, PATCH)
    for i in range(_LAYERS):
        block = f"v.blk.{i}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from _clamped(f"{block}.{name}", n, n)
        for name, rows, columns in (("up", 2 * n, n), ("gate", 2 * n, n), ("down", n, 2 * n)):
            yield from _clamped(f"{block}.ffn_{name}", rows, columns)
        for name in ("attn_q_norm", "attn_k_norm"):
            yield f"{block}.{name}.weight", _vector(n // _HEADS)
        for name in ("ln1", "ln2", "attn_post_norm", "ffn_post_norm"):
            yield f"{block}.{name}.weight", _vector(n)


def _qwen_tensors(width: int) -> Tensors:
    n = _VISION
    shapes = {
        "v.patch_embd": (n, 3, 16, 16),
        "v.post_ln": (n,),
        "mm.0": (4 * n, 4 * n),
        "mm.2": (width, 4 * n),
    }
    for i in range(_LAYERS):
        block = f"v.blk.{i}"
        shapes |= {f"{block}.ln1": (n,), f"{block}.ln2": (n,)}
        shapes |= {f"{block}.attn_qkv": (3 * n, n), f"{block}.attn_out": (n, n)}
        shapes |= {f"{block}.ffn_up": (2 * n, n), f"{block}.ffn_down": (n, 2 * n)}
    for name, size in shapes.items():
        yield f"{name}.weight", _matrix(name, *size) if len(size) > 1 else _vector(n)
        yield f"{name}.bias", _matrix(f"{name}.bias", size[0]) / np.float32(10)
    yield "v.patch_embd.weight.1", _matrix("v.patch_embd.1", n, 3, 16, 16)
    yield "v.position_embd.weight", _matrix("v.pos", 16 * 16, n)


def _audio_tensors(kind: str, width: int) -> Tensors:
    n = _AUDIO
    if kind == "gemma4ua":
        yield "mm.a.input_projection.weight", _matrix("mm.a", width, _FRAME)
        return
    yield "mm.a.input_projection.weight", _matrix("mm.a", width, 48)
    for i, (channels, inputs) in enumerate(((8, 1), (4, 8))):
        yield f"a.conv1d.{i}.weight", _matrix(f"conv{i}", channels, inputs, 3, 3)
        yield f"a.conv1d.{i}.norm.weight", _vector(channels)
    yield "a.input_projection.weight", _matrix("a.in", n, 4 * _MEL_BINS // 4)
    yield "a.pre_encode.out.weight", _matrix("a.out", 48, n)
    yield "a.pre_encode.out.bias", _vector(48)
    for i in range(_LAYERS):
        block = f"a.blk.{i}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out", "conv_pw2"):
            yield from _clamped(f"{block}.{name}", n, n)
        yield from _clamped(f"{block}.conv_pw1", 2 * n, n)
        for end in ("", "_1"):
            yield from _clamped(f"{block}.ffn_up{end}", 4 * n, n)
            yield from _clamped(f"{block}.ffn_down{end}", n, 4 * n)
            yield f"{block}.ffn_norm{end}.weight", _vector(n)
            yield f"{block}.ffn_post_norm{end}.weight", _vector(n)
        yield f"{block}.attn_k_rel.weight", _matrix(block, n, n)
        yield f"{block}.conv_dw.weight", _matrix(block, n, 5)
        yield f"{block}.per_dim_scale.weight", _vector(n // _HEADS)
        for name in ("attn_pre_norm", "attn_post_norm", "conv_norm", "norm_conv", "ln2"):
            yield f"{block}.{name}.weight", _vector(n)


def _clamped(name: str, rows: int, columns: int) -> Tensors:
    """A matrix whose inputs and outputs are clipped, as in Gemma 4's encoders."""
    yield f"{name}.weight", _matrix(name, rows, columns)
    for side in ("input", "output"):
        yield f"{name}.{side}_max", np.array([20], np.float32)
        yield f"{name}.{side}_min", np.array([-20], np.float32)


def _matrix(name: str, *shape: int) -> NDArray[np.float32]:
    random = np.random.default_rng([*name.encode(), *shape])
    return random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)


def _vector(length: int) -> NDArray[np.float32]:
    return np.random.default_rng(length).uniform(0.5, 1.5, length).astype(np.float32)
