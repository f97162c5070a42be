"""Encoders of images and audio of Gemma 4.

E2B and E4B have a vision and an audio encoder, 26B-A4B and 31B a vision encoder, and 12B has
projections only. Tensors are named by gguf's tensor map; `_UNIFIED` has names that it does not
contain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import isqrt

import numpy as np
from gguf import MODEL_ARCH, GGUFWriter, TensorNameMap, get_tensor_name_map

from localmtp.convert.huggingface.checkpoint import Checkpoint, Json
from localmtp.convert.huggingface.safetensors import GGML_TYPES, StoredTensor
from localmtp.convert.output.metadata import Provenance
from localmtp.convert.projector import Projector, ProjectorTensor, normalization
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError

_MULTIMODAL = re.compile("vision|audio")
_MAX_LAYERS = 128
"""Number of layers that gguf's tensor map is built for."""
_IMAGE_SIZE = 224
"""Required by llama.cpp and not used: images keep their aspect ratio."""
_EPSILON = 1e-6
_MEL_BINS = 128

_F32 = re.compile(r"a\.(conv1d|input_projection)\..*|.*\.conv_dw\.weight|v\.position_embd\.weight")
"""Tensors stored as F32 in addition to vectors and norms, as in llama.cpp's converter."""

_UNIFIED = {
    "patch_dense.weight": "v.patch_embd.weight",
    "patch_dense.bias": "v.patch_embd.bias",
    "pos_embedding": "v.position_embd.weight",
    **{
        f"patch_ln{i}.{what}": f"v.patch_norm.{i}.{what}"
        for i in "12"
        for what in ("weight", "bias")
    },
    **{f"pos_norm.{what}": f"v.patch_norm.3.{what}" for what in ("weight", "bias")},
}
_SUFFIXES = (".weight", ".bias", ".input_max", ".input_min", ".output_max", ".output_min")
_TRANSFORMED = (
    *("per_dim_scale", "per_dim_key_scale", "depthwise_conv1d.weight", "pos_embedding"),
    *("patch_embedder.input_proj.weight", "patch_dense.weight", "patch_ln1.weight"),
    "patch_ln1.bias",
)
"""Endings of parameters that are transformed, see `_transform`."""
_WITHOUT_SUFFIX = ("per_dim_scale", "per_dim_key_scale", "layer_scalar", "position_embedding_table")
"""Endings of parameters whose names in GGUF have an additional `.weight`."""
_LIMITS = re.compile(r"\.(in|out)put_(min|max)")
"""Limits to which inputs and outputs are clipped; they may be infinite."""


class Gemma4Projector(Projector):
    """The image and audio encoders of a checkpoint, parsed and checked.

    Args:
        checkpoint: a multimodal target.
        hidden: width of the language model.
        provenance: name and origin of the model.

    Raises:
        LocalmtpError: the checkpoint has no encoders, or not Gemma 4's.
    """

    def __init__(self, checkpoint: Checkpoint, hidden: int, provenance: Provenance) -> None:
        super().__init__(checkpoint, hidden, provenance)
        self._audio = self._section("audio_config")

    @property
    def unified(self) -> bool:
        """Whether it has projections only, no encoders (the unified class, 12B)."""
        return "mm_embed_dim" in self._vision

    def _write_settings(self, writer: GGUFWriter) -> None:
        self._write_vision(writer)
        if self._audio:
            self._write_audio(writer)

    def _write_vision(self, writer: GGUFWriter) -> None:
        vision = self._vision
        channels = normalization(self._checkpoint.directory)
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_vision_projector_type("gemma4uv" if self.unified else "gemma4v")
        writer.add_vision_projection_dim(self._hidden)
        writer.add_vision_image_size(_IMAGE_SIZE)
        writer.add_vision_patch_size(self._count(vision, "patch_size"))
        width = self._count(vision, "mm_embed_dim" if self.unified else "hidden_size")
        writer.add_vision_embedding_length(width)
        writer.add_vision_feed_forward_length(self._encoder_size(vision, "intermediate_size"))
        writer.add_vision_block_count(self._encoder_size(vision, "num_hidden_layers"))
        writer.add_vision_head_count(self._encoder_size(vision, "num_attention_heads"))
        writer.add_vision_image_mean(channels["image_mean"])
        writer.add_vision_image_std(channels["image_std"])
        if not self.unified:
            # llama.cpp's converter leaves it out: libmtmd then computes an approximation of GELU,
            # and rows of an image differ from transformers by more than 1 %, not 0.1 %.
            writer.add_vision_use_gelu(True)
        writer.add_vision_attention_layernorm_eps(vision.get("layer_norm_eps", _EPSILON))

    def _write_audio(self, writer: GGUFWriter) -> None:
        audio = self._audio
        writer.add_clip_has_audio_encoder(True)
        writer.add_clip_audio_projector_type("gemma4ua" if self.unified else "gemma4a")
        writer.add_audio_projection_dim(self._hidden)
        width = self._count(audio, "audio_embed_dim" if self.unified else "hidden_size")
        writer.add_audio_embedding_length(width)
        writer.add_audio_feed_forward_length(0 if self.unified else 4 * width)
        writer.add_audio_block_count(self._encoder_size(audio, "num_hidden_layers"))
        writer.add_audio_head_count(self._encoder_size(audio, "num_attention_heads"))
        writer.add_audio_num_mel_bins(audio.get("input_feat_size", _MEL_BINS))
        writer.add_audio_attention_layernorm_eps(audio.get("layer_norm_eps", _EPSILON))

    def _encoder_size(self, section: Json, key: str) -> int:
        return 0 if self.unified else self._count(section, key)

    def _planned(self) -> Iterator[ProjectorTensor]:
        names = get_tensor_name_map(MODEL_ARCH.MMPROJ, _MAX_LAYERS)
        for stored in self._checkpoint.tensors.values():
            if "language_model." in stored.name or not _MULTIMODAL.search(stored.name):
                continue
            name = _name(stored.name, names)
            if name is None or stored.dtype not in GGML_TYPES:
                raise LocalmtpError(
                    f"{stored.file} has a tensor {stored.name} ({stored.dtype}), which Gemma 4's "
                    "encoders do not have"
                )
            transform, shape = _transform(stored)
            full, unbounded = _F32.fullmatch(name), _LIMITS.search(name)
            yield ProjectorTensor(name, stored, shape, transform, bool(full), bool(unbounded))


def _transform(
    stored: StoredTensor,
) -> tuple[Callable[[ggml.Floats], ggml.Floats] | None, tuple[int, ...]]:
    """Return the transformation into llama.cpp's layout (None: unchanged) and the new shape."""
    parameter = next((name for name in _TRANSFORMED if stored.name.endswith(name)), "")
    match parameter, stored.shape:
        case "", shape:
            return None, shape or (1,)
        case "per_dim_scale" | "per_dim_key_scale", shape:
            return _softplus, shape
        case "depthwise_conv1d.weight", (channels, 1, width):
            return (lambda x: x[:, 0]), (channels, width)
        case "pos_embedding", (places, axes, width):
            return (lambda x: x.transpose(1, 0, 2)), (axes, places, width)
        case "patch_embedder.input_proj.weight", (rows, columns) if (
            columns == 3 * (side := isqrt(columns // 3)) ** 2
        ):
            pixels = (rows, side, side, 3)
            return (lambda x: x.reshape(pixels).transpose(0, 3, 1, 2)), (rows, 3, side, side)
        case "patch_dense.weight" | "patch_ln1.weight" | "patch_ln1.bias", (*_, columns) if (
            columns % 3 == 0
        ):
            return _planes, stored.shape
    raise LocalmtpError(
        f"{stored.file}: {stored.name} has the shape {list(stored.shape)}, which does not fit "
        "Gemma 4's encoders"
    )


def _name(hf_name: str, names: TensorNameMap) -> str | None:
    """Return a tensor's name in GGUF; None if it is unknown."""
    if hf_name.startswith("model.vision_embedder."):
        return _UNIFIED.get(hf_name.removeprefix("model.vision_embedder."))
    name = hf_name.replace("model.audio_tower.", "conformer.")
    name = name.replace("model.vision_tower.encoder.", "vision_model.model.")
    name = name.replace(".linear.", ".")
    if name.endswith(_WITHOUT_SUFFIX):
        name += ".weight"
    return names.get_name(name, _SUFFIXES)


def _softplus(values: ggml.Floats) -> ggml.Floats:
    # Double precision: the last bit of torch's single precision result depends on the processor.
    return np.logaddexp(0, values.astype(np.float64)).astype(np.float32)


def _planes(values: ggml.Floats) -> ggml.Floats:
    """Reorder the last axis of patches from RGBRGB… to RR…GG…BB…."""
    pixels = values.reshape(*values.shape[:-1], -1, 3)
    return pixels.swapaxes(-1, -2).reshape(values.shape)
