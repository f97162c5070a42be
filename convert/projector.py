"""Multimodal projectors (`mmproj`): encoders of images and audio, in llama.cpp's libmtmd format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFType, GGUFWriter

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

_PATCHES = "v.patch_embd.weight"
"""Beginning of the names of convolutions over patches, which are F16 or F32."""


@dataclass(frozen=True, slots=True)
class ProjectorTensor:
    """A tensor of a projector's file."""

    name: str
    source: StoredTensor
    shape: tuple[int, ...]
    """Shape after `transform`."""
    transform: Callable[[ggml.Floats], ggml.Floats] | None = None
    full: bool = False
    """Stored as F32 in every file, as vectors and norms are."""
    unbounded: bool = False
    """Whether values may be infinite."""

    def kind(self, requested: GGMLQuantizationType) -> GGMLQuantizationType:
        """Type of the tensor in a file of the requested type."""
        small = len(self.shape) == 1 or self.name.endswith("_norm.weight")
        half = requested is GGMLQuantizationType.F16
        patches = self.name.startswith(_PATCHES) and not half
        return GGMLQuantizationType.F32 if small or patches or self.full else requested

    def size(self, requested: GGMLQuantizationType) -> int:
        """Bytes in a file of the requested type."""
        return prod(self.shape[:-1]) * ggml.row_size(self.kind(requested), self.shape[-1])

    def encoded(self, kind: GGMLQuantizationType) -> ggml.Bytes:
        """Read, transform and encode the tensor."""
        raw = self.source.read(0, self.source.size)
        floats = ggml.to_floats(raw, GGML_TYPES[self.source.dtype])
        if self.unbounded:
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


class Projector(ABC):
    """The image and audio encoders of a checkpoint, parsed and checked.

    Args:
        checkpoint: a multimodal target.
        hidden: width of the language model.
        provenance: name and origin of the model.

    Raises:
        LocalmtpError: the checkpoint has no encoders, or not those of its architecture.
    """

    def __init__(self, checkpoint: Checkpoint, hidden: int, provenance: Provenance) -> None:
        self._checkpoint, self._hidden, self._provenance = checkpoint, hidden, provenance
        self._vision = self._section("vision_config")
        self._tensors = sorted(self._planned(), key=lambda tensor: tensor.name)
        if not self._vision or not self._tensors:
            raise LocalmtpError(
                f"{checkpoint.directory} has no image or audio encoder",
                hint="omit --mmproj, or use a checkpoint that still has them",
            )

    @abstractmethod
    def _planned(self) -> Iterator[ProjectorTensor]:
        """Yield the tensors in any order."""

    @abstractmethod
    def _write_settings(self, writer: GGUFWriter) -> None:
        """Write the sizes of the encoders (`clip.*`)."""

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self._tensors)

    def path(self, out: Path, quant: str) -> Path:
        """Path of its file, which llama.cpp finds next to the target by the prefix `mmproj-`."""
        return out / f"mmproj-{self._provenance.file_name}-{quant}.gguf"

    def size(self, quant: str) -> int:
        """Size of its tensors in bytes, as one of PROJECTOR_TYPES."""
        return sum(tensor.size(PROJECTOR_TYPES[quant]) for tensor in self._tensors)

    def writer(self, quant: str) -> GGUFWriter:
        """Build the metadata and the tensor table; nothing is written yet."""
        requested = PROJECTOR_TYPES[quant]
        writer = GGUFWriter(None, "clip")
        for tensor in self._tensors:
            kind, size = tensor.kind(requested), tensor.size(requested)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
        write_provenance(writer, self._checkpoint, self._provenance, None, GGUFType.MMPROJ)
        write_quantization(writer, file_type(quant))
        self._write_settings(writer)
        return writer

    def data(self, quant: str) -> Iterator[ggml.Bytes]:
        """Yield the bytes of every tensor in the writer's order."""
        for tensor in self._tensors:
            yield tensor.encoded(tensor.kind(PROJECTOR_TYPES[quant]))

    def _section(self, key: str) -> Json:
        """Return an object of config.json; empty if there is none."""
        section = self._checkpoint.config.get(key)
        return section if isinstance(section, dict) else {}

    def _count(self, section: Json, key: str, default: int | None = None) -> int:
        value = section.get(key, default)
        if type(value) is not int or not 0 < value < 1 << 31:
            path = self._checkpoint.directory / "config.json"
            raise LocalmtpError(f"{path}: invalid {key}: {str(value)[:60]}")
        return value


@dataclass(frozen=True, slots=True)
class PlannedProjector:
    """A projector file to write."""

    projector: Projector
    quant: str
    """A key of PROJECTOR_TYPES."""
    path: Path
    size: int
    """Size of the tensors in bytes."""


def normalization(directory: Path) -> Mapping[str, Sequence[float]]:
    """Read mean and standard deviation per colour channel, with which images are normalized.

    Raises:
        LocalmtpError: the processor's configuration is missing or malformed.
    """
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
