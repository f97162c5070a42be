"""Importance matrices written by `llama-imatrix`, in its GGUF format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from localmtp.convert.architectures.tensor_plan import PlannedTensor
from localmtp.convert.output.raw_header import read_raw_header
from localmtp.engine.llama.ggml import Floats
from localmtp.errors import LocalmtpError

_SUMS, _COUNTS = ".in_sum2", ".counts"

_MAX_METADATA = 1 << 20
"""Bytes of metadata: the names of some texts."""


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """Mean squared activation of each column, which weighs its quantization error."""

    file: str
    """Name of the file, without its folder."""
    dataset: str
    """Name of the text that was measured on."""
    chunks: int
    """Number of chunks of the text."""
    weights: Mapping[str, Floats]
    """Tensor name → [experts * width]."""

    def write(self, writer: GGUFWriter) -> None:
        """Write the matrix's origin (`quantize.imatrix.*`), as llama.cpp's quantizer does."""
        writer.add_string("quantize.imatrix.file", self.file)
        writer.add_string("quantize.imatrix.dataset", self.dataset)
        writer.add_uint32("quantize.imatrix.entries_count", len(self.weights))
        if self.chunks:
            writer.add_uint32("quantize.imatrix.chunks_count", self.chunks)

    def require_fit(self, tensors: Sequence[PlannedTensor]) -> None:
        """Refuse a matrix that was measured on another model.

        Raises:
            LocalmtpError: it has none of the tensors, or one with another width.
        """
        known = [tensor for tensor in tensors if tensor.name in self.weights]
        for tensor in known:
            experts = tensor.shape[0] if len(tensor.shape) == 3 else 1
            if self.weights[tensor.name].size != experts * tensor.shape[-1]:
                raise LocalmtpError(
                    f"{self.file} is for another model: the width of {tensor.name} differs"
                )
        if not known:
            raise LocalmtpError(f"{self.file} is for another model: it has none of the tensors")


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read an importance matrix.

    Raises:
        LocalmtpError: the file is missing, is not an importance matrix, or contains NaN or
            infinity.
    """
    if not path.is_file():
        raise LocalmtpError(f"{path} does not exist")
    # The library's reader loops over counts that a damaged file may claim.
    read_raw_header(path, _MAX_METADATA)
    try:
        reader = GGUFReader(path)
        tensors = {t.name: t.data for t in reader.tensors}
        fields = {key: reader.get_field(f"imatrix.{key}") for key in ("datasets", "chunk_count")}
        datasets, chunks = (field.contents() if field else None for field in fields.values())
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise LocalmtpError(
            f"{path} is not an importance matrix in GGUF: {error}",
            hint="make one with llama-imatrix, which also converts the old format (--in-file)",
        ) from error
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    if type(chunks) is not int or not tensors:
        raise LocalmtpError(f"{path} is a GGUF file, not an importance matrix")
    dataset = datasets[0] if isinstance(datasets, list) and datasets else ""
    return ImportanceMatrix(path.name, str(dataset), chunks, dict(_means(path, tensors)))


def _means(path: Path, tensors: Mapping[str, Floats]) -> Iterator[tuple[str, Floats]]:
    for name, sums in tensors.items():
        if not name.endswith(_SUMS):
            continue
        counts = tensors.get(name.removesuffix(_SUMS) + _COUNTS)
        if (
            counts is None
            or sums.dtype != np.float32
            or not counts.size
            or not sums.size
            or sums.size % counts.size
        ):
            raise LocalmtpError(f"{path} is damaged: {name} has no matching counts")
        per_expert = np.rint(counts.astype(np.float32)).reshape(-1, 1)
        rows = sums.reshape(per_expert.size, -1)
        # The columns of an expert that was never selected weigh the same.
        means = np.divide(rows, per_expert, out=np.ones_like(rows), where=per_expert > 0)
        if not np.isfinite(means).all():
            raise LocalmtpError(f"{path}: {name} contains NaN or infinity")
        yield name.removesuffix(_SUMS), np.ascontiguousarray(means.ravel())
