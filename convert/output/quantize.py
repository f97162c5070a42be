"""Quantization: the type of every tensor, and the encoding of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

from localmtp.convert.architectures.tensor_plan import PlannedTensor
from localmtp.convert.output.imatrix import ImportanceMatrix
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.convert.architectures.base import Architecture

_NOT_WRITTEN = ("GUESSED", "NVFP4")
"""File types that gguf defines and libllama's quantizer does not write."""

FILE_TYPES = {
    name: kind
    for kind in LlamaFileType
    if (name := kind.name.partition("_")[2] or kind.name) not in _NOT_WRITTEN
}
"""Name of a quantization, such as Q4_K_M → `llama_ftype`."""

_UNQUANTIZED = {"F32": ggml.F32, "F16": ggml.F16, "BF16": ggml.BF16}

_WIDE = (ggml.F32, ggml.BF16)
"""Types with the range of float32."""

_F16_MAX = 65504.0
"""Limit of all other types, whose values or block scales are half-precision numbers."""


@dataclass(frozen=True, slots=True)
class QuantizationSpec:
    """Parameters of one quantized file."""

    name: str
    """A key of FILE_TYPES."""
    overrides: Sequence[tuple[str, str]] = ()
    """(regular expression on GGUF tensor names, type); the first match applies."""
    imatrix: ImportanceMatrix | None = None
    """Importance of the columns; some types require it."""

    @property
    def quantizes(self) -> bool:
        """Whether libllama's quantizer writes this type, not only its converter."""
        return self.name not in _UNQUANTIZED

    @property
    def importance(self) -> Mapping[str, ggml.Floats]:
        """Tensor name → [experts * width] weights of the columns' errors; empty if unquantized."""
        return self.imatrix.weights if self.imatrix and self.quantizes else {}


def file_type(name: str) -> LlamaFileType:
    """Return the `llama_ftype` of a quantization; upper and lower case are equivalent.

    Raises:
        LocalmtpError: the name is unknown.
    """
    kind = FILE_TYPES.get(name.upper())
    if kind is None:
        raise LocalmtpError(
            f"unknown quantization {name}", hint=f"supported: {', '.join(FILE_TYPES)}"
        )
    return kind


def tensor_types(
    model: Architecture,
    tensors: Sequence[PlannedTensor],
    quantization: QuantizationSpec,
    source: int,
) -> dict[str, GGMLQuantizationType]:
    """Choose the type of every tensor in the file.

    libllama chooses: its quantizer runs on a miniature of the model, in which every matrix has two
    rows (the choice does not depend on the number of rows), and the types are read from the result.

    Args:
        model: architecture and sizes.
        tensors: tensors of the file.
        quantization: the requested quantization.
        source: `ggml_type` of the checkpoint; tensors that are not quantized stay in it.

    Returns:
        Tensor name → type.

    Raises:
        LocalmtpError: libllama refuses, for example because the type needs an importance matrix.
    """
    overrides = _overrides(quantization, tensors)
    plain = _UNQUANTIZED.get(quantization.name)
    unquantized = GGMLQuantizationType(plain if plain is not None else source)
    full = {t.name: GGMLQuantizationType.F32 if t.stays_f32 else unquantized for t in tensors}
    if plain is not None:
        if overrides:
            raise LocalmtpError(f"--tensor-type has no effect in a {quantization.name} file")
        return full
    with TemporaryDirectory(prefix="localmtp-") as folder:
        miniature, quantized = Path(folder, "miniature.gguf"), Path(folder, "quantized.gguf")
        shapes = {t.name: _miniature_shape(t.shape) for t in tensors}
        _write_miniature(miniature, model, shapes, full)
        importance = {
            name: np.ones(shape[-1] * (shape[0] if len(shape) == 3 else 1), np.float32)
            for name, shape in shapes.items()
            if name in quantization.importance
        }
        kind = file_type(quantization.name)
        try:
            ggml.quantize_file(
                miniature, quantized, kind, importance=importance, overrides=overrides
            )
        except LocalmtpError as error:
            if quantization.imatrix is None and "imatrix" in error.message:
                raise LocalmtpError(
                    f"{quantization.name} needs an importance matrix", hint=model.without_matrix
                ) from None
            raise
        return {t.name: t.tensor_type for t in GGUFReader(quantized).tensors}


def encode_rows(
    raw: ggml.Bytes,
    source: int,
    shape: tuple[int, int],
    types: Sequence[tuple[int, ggml.Floats | None]],
) -> list[ggml.Bytes]:
    """Encode rows of a checkpoint in one or several types.

    Args:
        raw: [rows * width] values of type `source`, as bytes.
        source: `ggml_type` of the checkpoint.
        shape: (rows, width).
        types: for each result the `ggml_type`, and importance weights [width] or None.

    Returns:
        The encoded bytes, one array per type.

    Raises:
        ValueError: a value is not finite, or out of a type's range; the message says which.
    """
    floats = ggml.to_floats(raw, source).reshape(shape)
    low, high = float(floats.min()), float(floats.max())
    if not np.isfinite((low, high)).all():
        raise ValueError("it contains NaN or infinity")
    if (largest := max(-low, high)) > _F16_MAX and any(k not in _WIDE for k, _ in types):
        raise ValueError(f"{largest:.6g} exceeds the range of half precision; use BF16 or F32")
    return [
        raw if kind == source else ggml.quantize_rows(floats, kind, importance)
        for kind, importance in types
    ]


def _overrides(
    quantization: QuantizationSpec, tensors: Sequence[PlannedTensor]
) -> list[tuple[str, int]]:
    overrides = []
    for pattern, name in quantization.overrides:
        try:
            kind = GGMLQuantizationType[name.upper()]
            matches = any(re.search(pattern, t.name) for t in tensors)
        except KeyError:
            raise LocalmtpError(f"unknown tensor type {name}") from None
        except re.error as error:
            raise LocalmtpError(f"invalid regular expression {pattern!r}: {error}") from None
        if not matches:
            raise LocalmtpError(
                f"no tensor's name matches {pattern!r}",
                hint="use llama.cpp's tensor names, such as blk.0.ffn_down.weight",
            )
        overrides.append((pattern, int(kind)))
    return overrides


def _miniature_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape with at most two rows, of at most two experts."""
    return (*(min(n, 2) for n in shape[:-1]), shape[-1])


def _write_miniature(
    path: Path,
    model: Architecture,
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, GGMLQuantizationType],
) -> None:
    writer = GGUFWriter(path, model.gguf_name)
    model.write_settings(writer)
    for name, shape in shapes.items():
        size = int(np.prod(shape[:-1])) * ggml.row_size(types[name], shape[-1])
        writer.add_tensor(name, np.zeros(size, np.int8), raw_shape=shape, raw_dtype=types[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
