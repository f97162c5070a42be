"""The vision encoder of Qwen 3.5."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isqrt

from gguf import GGUFWriter, VisionProjectorType

from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.safetensors import GGML_TYPES, StoredTensor
from localmtp.convert.output.metadata import Provenance
from localmtp.convert.projector import Projector, ProjectorTensor, normalization
from localmtp.errors import LocalmtpError

_PREFIX = re.compile(r"(model\.)?visual\.")

_MAX_LAYERS = 512
"""Far beyond every encoder; the layers are listed one by one."""

_POSITIONS = 2304
"""`num_position_embeddings` where config.json has none."""

_PATCH_SIZE = 16
"""`patch_size` where config.json has none."""

_OUTER: Mapping[str, str] = {
    "merger.linear_fc1": "mm.0",
    "merger.linear_fc2": "mm.2",
    "merger.norm": "v.post_ln",
    "pos_embed": "v.position_embd",
    "patch_embed.proj": "v.patch_embd",
}
_LAYER: Mapping[str, str] = {
    "norm1": "ln1",
    "norm2": "ln2",
    "attn.qkv": "attn_qkv",
    "attn.proj": "attn_out",
    "mlp.linear_fc1": "ffn_up",
    "mlp.linear_fc2": "ffn_down",
}
_BLOCK = re.compile(r"blocks\.(\d{1,3})\.(.+)")
_PATCHES = "v.patch_embd.weight"


class Qwen35Projector(Projector):
    """The vision encoder of a checkpoint, parsed and checked.

    Args:
        checkpoint: a multimodal target.
        hidden: width of the language model.
        epsilon: of the language model's norms, which libmtmd uses for the encoder too.
        provenance: name and origin of the model.

    Raises:
        LocalmtpError: the checkpoint has no encoder, or not Qwen 3.5's.
    """

    def __init__(
        self, checkpoint: Checkpoint, hidden: int, epsilon: float, provenance: Provenance
    ) -> None:
        super().__init__(checkpoint, hidden, provenance)
        self._epsilon = epsilon
        if self._vision.get("deepstack_visual_indexes"):
            raise LocalmtpError(
                f"{checkpoint.directory} has a DeepStack encoder, which Qwen 3.5 does not have",
                hint="llama.cpp's convert_hf_to_gguf.py --mmproj converts it",
            )

    def _write_settings(self, writer: GGUFWriter) -> None:
        vision, channels = self._vision, normalization(self._checkpoint.directory)
        patch = self._count(vision, "patch_size", _PATCH_SIZE)
        layers = self._count(vision, "depth")
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type(VisionProjectorType.QWEN3VL)
        writer.add_vision_projection_dim(self._hidden)
        positions = self._count(vision, "num_position_embeddings", _POSITIONS)
        writer.add_vision_image_size(vision.get("image_size") or isqrt(positions) * patch)
        writer.add_vision_patch_size(patch)
        writer.add_vision_embedding_length(self._count(vision, "hidden_size"))
        writer.add_vision_feed_forward_length(self._count(vision, "intermediate_size"))
        writer.add_vision_block_count(layers)
        writer.add_vision_head_count(self._count(vision, "num_heads"))
        writer.add_vision_image_mean(channels["image_mean"])
        writer.add_vision_image_std(channels["image_std"])
        writer.add_vision_use_gelu(True)
        writer.add_vision_spatial_merge_size(self._count(vision, "spatial_merge_size", 2))
        writer.add_vision_attention_layernorm_eps(self._epsilon)
        if layers > _MAX_LAYERS:
            raise LocalmtpError(f"the vision encoder has {layers} layers, which is implausible")
        writer.add_vision_is_deepstack_layers([False] * layers)

    def _planned(self) -> Iterator[ProjectorTensor]:
        for stored in self._checkpoint.tensors.values():
            if not _PREFIX.match(stored.name):
                continue
            name = _name(_PREFIX.sub("", stored.name, count=1))
            if name is None or stored.dtype not in GGML_TYPES:
                raise LocalmtpError(
                    f"{stored.file} has a tensor {stored.name} ({stored.dtype}), which Qwen 3.5's "
                    "encoder does not have"
                )
            if name == _PATCHES:
                yield from _patches(stored)
            else:
                full = name == "v.position_embd.weight"
                yield ProjectorTensor(name, stored, stored.shape, full=full)


def _patches(stored: StoredTensor) -> Iterator[ProjectorTensor]:
    """Yield the convolution over two frames as two over images."""
    match stored.shape:
        case (channels, colours, 2, height, width):
            shape = channels, colours, height, width
        case _:
            raise LocalmtpError(
                f"{stored.file}: {stored.name} has the shape {list(stored.shape)}, which does not "
                "fit Qwen 3.5's encoder"
            )
    yield ProjectorTensor(_PATCHES, stored, shape, lambda values: values[:, :, 0])
    yield ProjectorTensor(f"{_PATCHES}.1", stored, shape, lambda values: values[:, :, 1])


def _name(hf_name: str) -> str | None:
    """Return a tensor's name in GGUF; None if it is unknown."""
    stem, _, suffix = hf_name.rpartition(".")
    if suffix not in ("weight", "bias"):
        return None
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{suffix}"
    block = _BLOCK.fullmatch(stem)
    if block and block[2] in _LAYER:
        return f"v.blk.{int(block[1])}.{_LAYER[block[2]]}.{suffix}"
    return None
