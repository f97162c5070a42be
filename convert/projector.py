"""Multimodal projectors (`mmproj`): encoders of images and audio, in llama.cpp's libmtmd format.

E2B and E4B have a vision and an audio encoder, 26B-A4B and 31B a vision encoder, and 12B has
projections only. Tensors are named by gguf's tensor map; `_UNIFIED` has names that it does not
contain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFType,
    GGUFWriter,
    TensorNameMap,
    get_tensor_name_map,
)

from localmtp.convert.huggingface.checkpoint import Checkpoint, Json, read_json
from localmtp.convert.huggingface.safetensors import GGML_TYPES, StoredTensor
from localmtp.convert.output.metadata import Provenance, write_provenance, write_quantization
from localmtp.convert.output.quantize import encode_rows, file_type
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError

PROJECTOR_TYPES = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
"""Types of a projector, which is small compared to the model and not quantized."""

_MULTIMODAL = re.compile("vision|audio")
_MAX_LAYERS = 128
"""Number of layers that gguf's tensor map is built for."""
_IMAGE_SIZE = 224
"""Required by llama.cpp and not used: images keep their aspect ratio."""
_EPSILON = 1e-6
_MEL_BINS = 128

_F32 = re.compile(r"a\.(conv1d|input_projection)\..*|.*\.conv_dw\.weight|v\.position_embd\.weight")
"""Tensors stored as F32 in addition to vectors and norms, as in llama.cpp's converter."""
_PATCHES = "v.patch_embd.weight"

_UNIFIED = {
    "patch_dense.weight": _PATCHES,
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


@dataclass(frozen=True, slots=True)
class _ProjectorTensor:
    name: str
    source: StoredTensor
    shape: tuple[int, ...]
    """Shape after `transform`."""
    transform: Callable[[ggml.Floats], ggml.Floats] | None

    def kind(self, requested: GGMLQuantizationType) -> GGMLQuantizationType:
        """Type of the tensor in a file of the requested type."""
        small = len(self.shape) == 1 or self.name.endswith("_norm.weight")
        patches = self.name == _PATCHES and requested is not GGMLQuantizationType.F16
        full = small or patches or _F32.fullmatch(self.name)
        return GGMLQuantizationType.F32 if full else requested

    def encoded(self, kind: GGMLQuantizationType) -> ggml.Bytes:
        """Read, transform and encode the tensor."""
        raw = self.source.read(0, self.source.size)
        floats = ggml.to_floats(raw, GGML_TYPES[self.source.dtype])
        if _LIMITS.search(self.name):
            return floats.view(np.uint8)
        if self.transform is not None:
            floats = self.transform(floats.reshape(self.source.shape))
        floats = np.ascontiguousarray(floats, np.float32).reshape(-1)
        shape = prod(self.shape[:-1]), self.shape[-1]
        try:
            return encode_rows(floats.view(np.uint8), ggml.F32, shape, [(kind, None)])[0]
        except ValueError as error:
            raise LocalmtpError(
                f"{self.source.file}: cannot convert {self.source.name}: {error}"
            ) from None


class Projector:
    """The image and audio encoders of a checkpoint, parsed and checked.

    Args:
        checkpoint: a multimodal target.
        hidden: width of the language model.
        provenance: name and origin of the model.

    Raises:
        LocalmtpError: the checkpoint has no encoders, or not Gemma 4's.
    """

    def __init__(self, checkpoint: Checkpoint, hidden: int, provenance: Provenance) -> None:
        self._checkpoint, self._hidden, self._provenance = checkpoint, hidden, provenance
        self._vision = _section(checkpoint, "vision_config")
        self._audio = _section(checkpoint, "audio_config")
        self._tensors = sorted(self._planned(), key=lambda tensor: tensor.name)
        if not self._vision or not self._tensors:
            raise LocalmtpError(
                f"{checkpoint.directory} has no image or audio encoder",
                hint="omit --mmproj, or use a checkpoint that still has them",
            )

    @property
    def unified(self) -> bool:
        """Whether it has projections only, no encoders (the unified class, 12B)."""
        return "mm_embed_dim" in self._vision

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self._tensors)

    def path(self, out: Path, quant: str) -> Path:
        """Path of its file, which llama.cpp finds next to the target by the prefix `mmproj-`."""
        return out / f"mmproj-{self._provenance.file_name}-{quant}.gguf"

    def size(self, quant: str) -> int:
        """Size of its tensors in bytes, as one of PROJECTOR_TYPES."""
        return sum(_size(tensor, PROJECTOR_TYPES[quant]) for tensor in self._tensors)

    def writer(self, quant: str) -> GGUFWriter:
        """Build the metadata and the tensor table; nothing is written yet."""
        writer = GGUFWriter(None, "clip")
        for tensor in self._tensors:
            kind = tensor.kind(PROJECTOR_TYPES[quant])
            size = _size(tensor, PROJECTOR_TYPES[quant])
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
        write_provenance(writer, self._checkpoint, self._provenance, None, GGUFType.MMPROJ)
        write_quantization(writer, file_type(quant))
        self._write_vision(writer)
        if self._audio:
            self._write_audio(writer)
        return writer

    def data(self, quant: str) -> Iterator[ggml.Bytes]:
        """Yield the bytes of every tensor in the writer's order."""
        for tensor in self._tensors:
            yield tensor.encoded(tensor.kind(PROJECTOR_TYPES[quant]))

    def _write_vision(self, writer: GGUFWriter) -> None:
        vision = self._vision
        normalization = _preprocessing(self._checkpoint.directory)
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
        writer.add_vision_image_mean(normalization["image_mean"])
        writer.add_vision_image_std(normalization["image_std"])
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

    def _count(self, section: Json, key: str) -> int:
        value = section.get(key)
        if type(value) is not int or not 0 < value < 1 << 31:
            path = self._checkpoint.directory / "config.json"
            raise LocalmtpError(f"{path}: invalid {key}: {str(value)[:60]}")
        return value

    def _planned(self) -> Iterator[_ProjectorTensor]:
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
            yield _ProjectorTensor(name, stored, shape, transform)


@dataclass(frozen=True, slots=True)
class PlannedProjector:
    """A projector file to write."""

    projector: Projector
    quant: str
    """A key of PROJECTOR_TYPES."""
    path: Path
    size: int
    """Size of the tensors in bytes."""


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


def _size(tensor: _ProjectorTensor, requested: GGMLQuantizationType) -> int:
    return prod(tensor.shape[:-1]) * ggml.row_size(tensor.kind(requested), tensor.shape[-1])


def _section(checkpoint: Checkpoint, key: str) -> Json:
    section = checkpoint.config.get(key)
    return section if isinstance(section, dict) else {}


def _preprocessing(directory: Path) -> Mapping[str, Sequence[float]]:
    """Mean and standard deviation per colour channel, with which images are normalized."""
    found: dict[str, Any] = {}
    for name, key in (
        ("preprocessor_config.json", "media_proc_cfg"),
        ("processor_config.json", "image_processor"),
    ):
        if (directory / name).exists():
            config = read_json(directory / name)
            inner = config.get(key)
            found |= config | (inner if isinstance(inner, dict) else {})
    for key in ("image_mean", "image_std"):
        match found.get(key):
            case [int() | float(), int() | float(), int() | float()]:
                continue
            case _:
                raise LocalmtpError(
                    f"{directory} has no valid {key}, with which images are normalized",
                    hint="copy the original model's processor_config.json into it",
                )
    return found
