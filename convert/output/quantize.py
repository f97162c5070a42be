"""Which type each tensor gets, and turning rows of a checkpoint into it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

from localmtp.convert.huggingface.architecture import Spec
from localmtp.convert.huggingface.metadata import write_architecture
from localmtp.convert.huggingface.tensors import Tensor
from localmtp.convert.quality.imatrix import ImportanceMatrix
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError

_NOT_WRITTEN = ("GUESSED", "NVFP4")
"""File types that gguf knows and libllama's quantizer does not make."""

FILE_TYPES = {
    name: kind
    for kind in LlamaFileType
    if (name := kind.name.partition("_")[2] or kind.name) not in _NOT_WRITTEN
}
"""Quantization as users name it → `llama_ftype`."""

_UNQUANTIZED = {"F32": ggml.F32, "F16": ggml.F16, "BF16": ggml.BF16}

_WIDE = (ggml.F32, ggml.BF16)
_F16_MAX = 65504.0
"""Every other type holds, or scales its blocks by, half-precision numbers."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantize."""

    name: str
    """A key of FILE_TYPES."""
    overrides: Sequence[tuple[str, str]] = ()
    """(regular expression on GGUF tensor names, type): the first match decides."""
    imatrix: ImportanceMatrix | None = None

    @property
    def importance(self) -> Mapping[str, ggml.Floats]:
        """Tensor → [experts * width] weights of the columns' errors, for types that have scales."""
        return self.imatrix.weights if self.imatrix and self.name not in _UNQUANTIZED else {}


def file_type(name: str) -> LlamaFileType:
    """The `llama_ftype` of a quantization, written in any case.

    Raises:
        LocalmtpError: there is none of that name.
    """
    kind = FILE_TYPES.get(name.upper())
    if kind is None:
        raise LocalmtpError(
            f"there is no quantization {name}", hint=f"there are: {', '.join(FILE_TYPES)}"
        )
    return kind


def tensor_types(
    spec: Spec, tensors: Sequence[Tensor], recipe: Recipe, source: int
) -> dict[str, GGMLQuantizationType]:
    """The type of every tensor in the file.

    libllama decides: its quantizer is run over the model in miniature (every matrix cut down to
    two rows, which its choice does not depend on), and the types are read from what it wrote.

    Args:
        spec: the architecture.
        tensors: to be written.
        recipe: the quantization.
        source: `ggml_type` of the checkpoint, which tensors that are not quantized keep.

    Raises:
        LocalmtpError: libllama refuses, for example because the type needs an importance matrix.
    """
    overrides = _overrides(recipe, tensors)
    plain = _UNQUANTIZED.get(recipe.name)
    unquantized = GGMLQuantizationType(plain if plain is not None else source)
    full = {t.name: GGMLQuantizationType.F32 if t.stays_f32 else unquantized for t in tensors}
    if plain is not None:
        if overrides:
            raise LocalmtpError(f"types of single tensors cannot be chosen in a {recipe.name} file")
        return full
    with TemporaryDirectory(prefix="localmtp-") as folder:
        miniature, quantized = Path(folder, "miniature.gguf"), Path(folder, "quantized.gguf")
        shapes = {t.name: _miniature_shape(t.shape) for t in tensors}
        _write_miniature(miniature, spec, shapes, full)
        importance = {
            name: np.ones(shape[-1] * (shape[0] if len(shape) == 3 else 1), np.float32)
            for name, shape in shapes.items()
            if name in recipe.importance
        }
        kind = file_type(recipe.name)
        try:
            ggml.quantize_file(
                miniature, quantized, kind, importance=importance, overrides=overrides
            )
        except LocalmtpError as error:
            if recipe.imatrix is None and "imatrix" in error.message:
                raise _needs_matrix(spec, recipe) from None
            raise
        return {t.name: t.tensor_type for t in GGUFReader(quantized).tensors}


def encode(
    raw: ggml.Bytes,
    source: int,
    shape: tuple[int, int],
    wanted: Sequence[tuple[int, ggml.Floats | None]],
) -> list[ggml.Bytes]:
    """Rows of a checkpoint in the types they are written in.

    Args:
        raw: [rows * width] numbers in the type `source`.
        source: `ggml_type` of the checkpoint.
        shape: (rows, width).
        wanted: for each result the `ggml_type`, and [width] importance weights or None.

    Raises:
        ValueError: a number is not finite, or too large for a type; says which.
    """
    floats = ggml.to_floats(raw, source).reshape(shape)
    low, high = float(floats.min()), float(floats.max())
    if not np.isfinite((low, high)).all():
        raise ValueError("it holds NaN or infinity")
    if (largest := max(-low, high)) > _F16_MAX and any(k not in _WIDE for k, _ in wanted):
        raise ValueError(f"{largest:.6g} is too large for half precision; BF16 and F32 can hold it")
    return [
        raw if kind == source else ggml.quantize_rows(floats, kind, importance)
        for kind, importance in wanted
    ]


def _needs_matrix(spec: Spec, recipe: Recipe) -> LocalmtpError:
    hint = "give one with --imatrix: llama-imatrix measures it on the BF16 file"
    if spec.backbone is not None:
        hint = "llama-imatrix cannot run a drafter; Q8_0, Q4_0 and IQ4_XS need no matrix"
    return LocalmtpError(f"{recipe.name} needs an importance matrix", hint=hint)


def _overrides(recipe: Recipe, tensors: Sequence[Tensor]) -> list[tuple[str, int]]:
    overrides = []
    for pattern, name in recipe.overrides:
        try:
            kind = GGMLQuantizationType[name.upper()]
            matches = any(re.search(pattern, t.name) for t in tensors)
        except KeyError:
            raise LocalmtpError(f"there is no tensor type {name}") from None
        except re.error as error:
            raise LocalmtpError(f"{pattern!r} is no regular expression: {error}") from None
        if not matches:
            raise LocalmtpError(
                f"no tensor's name matches {pattern!r}",
                hint="names are llama.cpp's, such as blk.0.ffn_down.weight",
            )
        overrides.append((pattern, int(kind)))
    return overrides


def _miniature_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Two rows of each matrix, of two experts."""
    return (*(min(n, 2) for n in shape[:-1]), shape[-1])


def _write_miniature(
    path: Path,
    spec: Spec,
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, GGMLQuantizationType],
) -> None:
    writer = GGUFWriter(path, spec.architecture)
    write_architecture(writer, spec)
    for name, shape in shapes.items():
        size = int(np.prod(shape[:-1])) * ggml.row_size(types[name], shape[-1])
        writer.add_tensor(name, np.zeros(size, np.int8), raw_shape=shape, raw_dtype=types[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
