"""The towers for images and sound (`mmproj`), as llama.cpp's multimodal library takes them.

E2B and E4B see and hear through transformers, 26B-A4B and 31B see through one, and 12B has
projections alone. Names are those of gguf's tensor map; what it lacks is named here.
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

from localmtp.convert.huggingface.checkpoint import KINDS, Checkpoint, Json, StoredTensor, read_json
from localmtp.convert.huggingface.metadata import Origin, write_origin, write_quantization
from localmtp.convert.output.quantize import encode, file_type
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError

TYPES = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
"""What a projector is written in: small beside the model, it is not quantized."""

_OURS = re.compile("vision|audio")
_MOST_LAYERS = 128
_IMAGE_SIZE = 224
"""llama.cpp wants one and does not use it: images keep their proportions."""
_EPSILON = 1e-6
_MEL_BINS = 128

_F32 = re.compile(r"a\.(conv1d|input_projection)\..*|.*\.conv_dw\.weight|v\.position_embd\.weight")
"""What stays F32 besides vectors and norms, as llama.cpp's converter has it."""
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
_CHANGED = (
    *("per_dim_scale", "per_dim_key_scale", "depthwise_conv1d.weight", "pos_embedding"),
    *("patch_embedder.input_proj.weight", "patch_dense.weight", "patch_ln1.weight"),
    "patch_ln1.bias",
)
"""Parameters that are not copied as they are."""
_NAMELESS = ("per_dim_scale", "per_dim_key_scale", "layer_scalar", "position_embedding_table")
"""Parameters whose names lack the `.weight` that they have in the file."""
_LIMITS = re.compile(r"\.(in|out)put_(min|max)")
"""What inputs and outputs are clipped to: may be infinite."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    source: StoredTensor
    shape: tuple[int, ...]
    """After `transform`."""
    transform: Callable[[ggml.Floats], ggml.Floats] | None

    def kind(self, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
        small = len(self.shape) == 1 or self.name.endswith("_norm.weight")
        patches = self.name == _PATCHES and wanted is not GGMLQuantizationType.F16
        return GGMLQuantizationType.F32 if small or patches or _F32.fullmatch(self.name) else wanted

    def encoded(self, kind: GGMLQuantizationType) -> ggml.Bytes:
        raw = self.source.read(0, self.source.size)
        floats = ggml.to_floats(raw, KINDS[self.source.dtype])
        if _LIMITS.search(self.name):
            return floats.view(np.uint8)
        if self.transform is not None:
            floats = self.transform(floats.reshape(self.source.shape))
        floats = np.ascontiguousarray(floats, np.float32).reshape(-1)
        shape = prod(self.shape[:-1]), self.shape[-1]
        try:
            return encode(floats.view(np.uint8), ggml.F32, shape, [(kind, None)])[0]
        except ValueError as error:
            where = f"{self.source.file}: {self.source.name}"
            raise LocalmtpError(f"{where} cannot be converted: {error}") from None


class Projector:
    """The towers of a checkpoint, understood.

    Args:
        checkpoint: of a multimodal target.
        hidden: width of the language model.
        origin: what it is called.

    Raises:
        LocalmtpError: the checkpoint has no towers, or others than Gemma 4's.
    """

    def __init__(self, checkpoint: Checkpoint, hidden: int, origin: Origin) -> None:
        self._checkpoint, self._hidden, self._origin = checkpoint, hidden, origin
        self._vision = _section(checkpoint, "vision_config")
        self._audio = _section(checkpoint, "audio_config")
        self._tensors = sorted(self._planned(), key=lambda tensor: tensor.name)
        if not self._vision or not self._tensors:
            raise LocalmtpError(
                f"{checkpoint.directory} has no towers for images or sound",
                hint="leave --mmproj out, or take the checkpoint that they were cut from",
            )

    @property
    def unified(self) -> bool:
        """Whether it has projections and no towers."""
        return "mm_embed_dim" in self._vision

    @property
    def weights(self) -> int:
        """How many numbers it has."""
        return sum(prod(tensor.shape) for tensor in self._tensors)

    def path(self, out: Path, quant: str) -> Path:
        """Its file: llama.cpp finds it beside the target by the `mmproj-`."""
        return out / f"mmproj-{self._origin.file_name}-{quant}.gguf"

    def size(self, quant: str) -> int:
        """Bytes of its tensors in a type."""
        return sum(_size(tensor, TYPES[quant]) for tensor in self._tensors)

    def writer(self, quant: str) -> GGUFWriter:
        """Metadata and tensors, ready to be written."""
        writer = GGUFWriter(None, "clip")
        for tensor in self._tensors:
            kind = tensor.kind(TYPES[quant])
            size = _size(tensor, TYPES[quant])
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
        write_origin(writer, self._checkpoint, self._origin, None, GGUFType.MMPROJ)
        write_quantization(writer, file_type(quant))
        self._write_vision(writer)
        if self._audio:
            self._write_audio(writer)
        return writer

    def data(self, quant: str) -> Iterator[ggml.Bytes]:
        """The tensors' bytes, in the writer's order."""
        for tensor in self._tensors:
            yield tensor.encoded(tensor.kind(TYPES[quant]))

    def _write_vision(self, writer: GGUFWriter) -> None:
        vision = self._vision
        pictures = _preprocessing(self._checkpoint.directory)
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_vision_projector_type("gemma4uv" if self.unified else "gemma4v")
        writer.add_vision_projection_dim(self._hidden)
        writer.add_vision_image_size(_IMAGE_SIZE)
        writer.add_vision_patch_size(self._count(vision, "patch_size"))
        width = self._count(vision, "mm_embed_dim" if self.unified else "hidden_size")
        writer.add_vision_embedding_length(width)
        writer.add_vision_feed_forward_length(self._tower(vision, "intermediate_size"))
        writer.add_vision_block_count(self._tower(vision, "num_hidden_layers"))
        writer.add_vision_head_count(self._tower(vision, "num_attention_heads"))
        writer.add_vision_image_mean(pictures["image_mean"])
        writer.add_vision_image_std(pictures["image_std"])
        writer.add_vision_attention_layernorm_eps(vision.get("layer_norm_eps", _EPSILON))

    def _write_audio(self, writer: GGUFWriter) -> None:
        audio = self._audio
        writer.add_clip_has_audio_encoder(True)
        writer.add_clip_audio_projector_type("gemma4ua" if self.unified else "gemma4a")
        writer.add_audio_projection_dim(self._hidden)
        width = self._count(audio, "audio_embed_dim" if self.unified else "hidden_size")
        writer.add_audio_embedding_length(width)
        writer.add_audio_feed_forward_length(0 if self.unified else 4 * width)
        writer.add_audio_block_count(self._tower(audio, "num_hidden_layers"))
        writer.add_audio_head_count(self._tower(audio, "num_attention_heads"))
        writer.add_audio_num_mel_bins(audio.get("input_feat_size", _MEL_BINS))
        writer.add_audio_attention_layernorm_eps(audio.get("layer_norm_eps", _EPSILON))

    def _tower(self, section: Json, key: str) -> int:
        return 0 if self.unified else self._count(section, key)

    def _count(self, section: Json, key: str) -> int:
        value = section.get(key)
        if type(value) is not int or not 0 < value < 1 << 31:
            path = self._checkpoint.directory / "config.json"
            raise LocalmtpError(f"{path} has no usable {key}: {str(value)[:60]}")
        return value

    def _planned(self) -> Iterator[_Tensor]:
        names = get_tensor_name_map(MODEL_ARCH.MMPROJ, _MOST_LAYERS)
        for stored in self._checkpoint.tensors.values():
            if "language_model." in stored.name or not _OURS.search(stored.name):
                continue
            name = _name(stored.name, names)
            if name is None or stored.dtype not in KINDS:
                raise LocalmtpError(
                    f"{stored.file} holds {stored.name} ({stored.dtype}), which has no place in "
                    "Gemma 4's towers"
                )
            transform, shape = _transform(stored)
            yield _Tensor(name, stored, shape, transform)


def _transform(
    stored: StoredTensor,
) -> tuple[Callable[[ggml.Floats], ggml.Floats] | None, tuple[int, ...]]:
    """What llama.cpp's layout asks for, and the shape that comes out."""
    parameter = next((name for name in _CHANGED if stored.name.endswith(name)), "")
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
        f"{stored.file}: {stored.name} has the shape {list(stored.shape)}, which Gemma 4's towers "
        "do not have"
    )


def _name(hf_name: str, names: TensorNameMap) -> str | None:
    """A tensor's name in the file; None when there is none."""
    if hf_name.startswith("model.vision_embedder."):
        return _UNIFIED.get(hf_name.removeprefix("model.vision_embedder."))
    name = hf_name.replace("model.audio_tower.", "conformer.")
    name = name.replace("model.vision_tower.encoder.", "vision_model.model.")
    name = name.replace(".linear.", ".")
    if name.endswith(_NAMELESS):
        name += ".weight"
    return names.get_name(name, _SUFFIXES)


def _softplus(values: ggml.Floats) -> ggml.Floats:
    # In double precision: the last bit of torch's single depends on the processor.
    return np.logaddexp(0, values.astype(np.float64)).astype(np.float32)


def _planes(values: ggml.Floats) -> ggml.Floats:
    """Patches of RGBRGB… to RR…GG…BB…, along the last axis."""
    pixels = values.reshape(*values.shape[:-1], -1, 3)
    return pixels.swapaxes(-1, -2).reshape(values.shape)


def _size(tensor: _Tensor, wanted: GGMLQuantizationType) -> int:
    return prod(tensor.shape[:-1]) * ggml.row_size(tensor.kind(wanted), tensor.shape[-1])


def _section(checkpoint: Checkpoint, key: str) -> Json:
    section = checkpoint.config.get(key)
    return section if isinstance(section, dict) else {}


def _preprocessing(directory: Path) -> Mapping[str, Sequence[float]]:
    """Mean and standard deviation that pictures are normalized with, for each colour."""
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
                    f"{directory} does not say how pictures are normalized ({key})",
                    hint="copy the original model's processor_config.json into it",
                )
    return found
