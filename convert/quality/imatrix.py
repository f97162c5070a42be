"""Importance matrices from `llama-imatrix`: how much an error in each column matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from localmtp.convert.huggingface.tensors import Tensor
from localmtp.engine.llama.ggml import Floats
from localmtp.errors import LocalmtpError

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """The mean squared activation of each column, measured on some text."""

    file: str
    dataset: str
    """Name of the text."""
    chunks: int
    """How many pieces of it were measured."""
    weights: Mapping[str, Floats]
    """Tensor → [experts * width]."""

    def write(self, writer: GGUFWriter) -> None:
        """Add where the matrix comes from (`quantize.imatrix.*`), as llama.cpp's quantizer does."""
        writer.add_string("quantize.imatrix.file", self.file)
        writer.add_string("quantize.imatrix.dataset", self.dataset)
        writer.add_uint32("quantize.imatrix.entries_count", len(self.weights))
        if self.chunks:
            writer.add_uint32("quantize.imatrix.chunks_count", self.chunks)

    def require_fit(self, tensors: Sequence[Tensor]) -> None:
        """Refuse a matrix that was measured on another model.

        Raises:
            LocalmtpError: it knows none of the tensors, or one of another width.
        """
        known = [tensor for tensor in tensors if tensor.name in self.weights]
        for tensor in known:
            experts = tensor.shape[0] if len(tensor.shape) == 3 else 1
            if self.weights[tensor.name].size != experts * tensor.shape[-1]:
                raise LocalmtpError(f"{self.file} does not fit the model: {tensor.name} differs")
        if not known:
            raise LocalmtpError(f"{self.file} is for another model: it has none of the tensors")


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read what `llama-imatrix` wrote.

    Raises:
        LocalmtpError: it is missing, not an importance matrix, or holds numbers that are none.
    """
    if not path.is_file():
        raise LocalmtpError(f"{path} does not exist")
    try:
        reader = GGUFReader(path)
        tensors = {t.name: t.data for t in reader.tensors}
        fields = {key: reader.get_field(f"imatrix.{key}") for key in ("datasets", "chunk_count")}
        datasets, chunks = (field.contents() if field else None for field in fields.values())
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise LocalmtpError(
            f"{path} is not an importance matrix in GGUF: {error}",
            hint="make one with llama-imatrix; it also converts old ones (--in-file)",
        ) from error
    if chunks is None or not tensors:
        raise LocalmtpError(f"{path} is a GGUF file, but not an importance matrix")
    return ImportanceMatrix(
        path.name, datasets[0] if datasets else "", int(chunks), dict(_means(path, tensors))
    )


def _means(path: Path, tensors: Mapping[str, Floats]) -> Iterator[tuple[str, Floats]]:
    for name, sums in tensors.items():
        if not name.endswith(_SUMS):
            continue
        counts = tensors.get(name.removesuffix(_SUMS) + _COUNTS)
        if counts is None or sums.dtype != np.float32 or sums.size % max(1, counts.size):
            raise LocalmtpError(f"{path} is damaged: {name} has no counts to go with it")
        per_expert = np.rint(counts.astype(np.float32)).reshape(-1, 1)
        rows = sums.reshape(per_expert.size, -1)
        # An expert that saw no token has no preference.
        means = np.divide(rows, per_expert, out=np.ones_like(rows), where=per_expert > 0)
        if not np.isfinite(means).all():
            raise LocalmtpError(f"{path} holds NaN or infinity in {name}")
        yield name.removesuffix(_SUMS), np.ascontiguousarray(means.ravel())
