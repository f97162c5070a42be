"""GGUF files with the shape and quantization of a real model, and random weights.

The speed of a pass does not depend on the values of weights. Types and shapes are those that the
converter chooses for the real checkpoint.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files as resources
from math import prod
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFWriter

from localmtp.convert.architectures.base import Architecture
from localmtp.convert.architectures.detect import read_architecture
from localmtp.convert.architectures.tensor_plan import (
    PlannedTensor,
    plan_tensors,
    required_shapes,
    source_type,
)
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.rows import ComputedRows
from localmtp.convert.huggingface.safetensors import StoredTensor
from localmtp.convert.output.metadata import write_quantization
from localmtp.convert.output.quantize import QuantizationSpec, file_type, tensor_types
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError

_POOL_ROWS, _POOL_WIDTH = 512, 2048
"""A million random numbers, repeated throughout a file: quantizing distinct ones takes minutes, and
repeated data is read from memory at the same speed."""

_CHUNK = 16 << 20
"""Bytes per write."""

_SPREAD = 0.02
"""Standard deviation of the weights; norms bound the activations."""

_SAME_SHAPE = {
    "qwen3.6-27b": "qwen3.5-27b",
    "qwen3.6-35b-a3b": "qwen3.5-35b-a3b",
    "qwen3.8-27b": "qwen3.5-27b",
}
"""Model → model with the same configuration."""

_DECAY = "ssm_a"
"""Vectors whose values are negative; with others, recurrent states grow beyond all numbers."""


@dataclass(frozen=True)
class SyntheticFile:
    """The description of a GGUF file, which `outline` and `fill` write."""

    name: str
    quant: str
    """A key of the converter's `FILE_TYPES`."""
    spec: Architecture
    tensors: tuple[PlannedTensor, ...]

    @cached_property
    def types(self) -> Mapping[str, GGMLQuantizationType]:
        """Types of the tensors by name.

        Raises:
            LocalmtpError: libllama cannot choose them; some need an importance matrix.
        """
        pure = self.spec.pure_overrides if self.quant == "Q4_0" else ()
        recipe = QuantizationSpec(self.quant, pure)
        return tensor_types(self.spec, self.tensors, recipe, source_type(self.tensors))

    @property
    def nbytes(self) -> int:
        """Bytes of the weights; the vocabulary adds some megabytes."""
        return sum(map(self._size, self.tensors))

    def outline(self, path: Path) -> None:
        """Write everything but the weights, leaving a sparse hole in their place."""
        writer = GGUFWriter(None, self.spec.gguf_name)
        writer.add_name(self.name)
        for tensor in self.tensors:
            kind, size = self.types[tensor.name], self._size(tensor)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
        self.spec.write_settings(writer)
        write_quantization(writer, file_type(self.quant))
        self.spec.write_placeholder_vocabulary(writer)
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with path.open("ab") as file:
            file.truncate(_padded(file.tell()) + sum(_padded(self._size(t)) for t in self.tensors))

    def fill(self, path: Path) -> None:
        """Write the weights into an outline, about as fast as the disk allows."""
        pools: dict[int, ggml.Bytes] = {}
        with path.open("r+b") as file:
            file.seek(-sum(_padded(self._size(t)) for t in self.tensors), SEEK_END)
            for tensor in self.tensors:
                for chunk in self._data(tensor, pools):
                    file.write(chunk.data)
                file.seek(_padded(file.tell()))

    def _size(self, tensor: PlannedTensor) -> int:
        rows, width = prod(tensor.shape[:-1]), tensor.shape[-1]
        return rows * ggml.row_size(self.types[tensor.name], width)

    def _data(self, tensor: PlannedTensor, pools: dict[int, ggml.Bytes]) -> Iterator[ggml.Bytes]:
        """Yield the bytes of a tensor: ones for vectors, random blocks for matrices."""
        if isinstance(tensor.source, ComputedRows):
            yield tensor.source.values.view(np.uint8)
            return
        if len(tensor.shape) == 1:
            value = -1 if tensor.name.endswith(_DECAY) else 1
            yield np.full(tensor.shape, value, np.float32).view(np.uint8)
            return
        kind = self.types[tensor.name]
        if kind not in pools:
            pools[kind] = _pool(kind)
        left = self._size(tensor)
        while left:
            chunk = pools[kind][:left]
            yield chunk
            left -= chunk.nbytes


def synthetic_files(name: str, quant: str) -> tuple[SyntheticFile, ...]:
    """Return target and drafter of a registry model; of one with an MTP head in it the target.

    Args:
        name: as in the registry, without quantization.
        quant: of the target. Published drafters are Q4_0 for a Q4_0 target, otherwise Q8_0.

    Raises:
        LocalmtpError: the configuration or the quantization is unknown.
    """
    known = tomllib.loads((resources(__package__) / "sizes.toml").read_text("utf-8"))
    same = _SAME_SHAPE.get(name, name)
    if same not in known:
        raise LocalmtpError(
            f"the configuration of {name} is unknown", hint=f"known: {', '.join(known)}"
        )
    target = synthetic_file(name, known[same]["target"], quant)
    if "drafter" not in known[same]:
        return (target,)
    drafter_quant = "Q4_0" if quant == "Q4_0" else "Q8_0"
    return target, synthetic_file(f"{name} drafter", known[same]["drafter"], drafter_quant)


def synthetic_file(name: str, config: Mapping[str, Any], quant: str) -> SyntheticFile:
    """Return a file of any configuration.

    Args:
        name: written into the file.
        config: keys of transformers' config.json, and `period`.
        quant: the quantization in capitals.

    Raises:
        LocalmtpError: the quantization is unknown.
    """
    file_type(quant)
    settings = dict(config)
    if period := settings.pop("period", 0):
        settings["layer_types"] = [
            "sliding_attention" if (i + 1) % period else "full_attention"
            for i in range(settings["num_hidden_layers"])
        ]
    checkpoint = Checkpoint(Path(name), settings, {}, {})
    spec = read_architecture(checkpoint)
    stored = {
        n: StoredTensor(n, "BF16", s, Path(name), 0) for n, s in required_shapes(spec).items()
    }
    tensors = plan_tensors(spec, replace(checkpoint, tensors=stored))
    return SyntheticFile(name, quant, spec, tuple(tensors))


def _padded(nbytes: int) -> int:
    """Round up to the alignment of tensors."""
    return -(-nbytes // GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT


def _pool(kind: int) -> ggml.Bytes:
    """Return about `_CHUNK` bytes of random blocks of a type."""
    random = np.random.default_rng(kind)
    numbers = random.normal(0, _SPREAD, (_POOL_ROWS, _POOL_WIDTH)).astype(np.float32)
    blocks = ggml.quantize_rows(numbers, kind)
    return np.tile(blocks, max(1, _CHUNK // blocks.nbytes))
