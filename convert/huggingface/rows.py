"""Rows of a GGUF tensor: read from the checkpoint, rearranged and computed in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from localmtp.convert.huggingface.safetensors import GGML_TYPES, StoredTensor
from localmtp.engine.llama.ggml import F32, Bytes, Floats, to_floats

Run = tuple[int, int]
"""First row, and number of consecutive rows."""


class Rows(ABC):
    """Rows of one tensor in the order of the GGUF file."""

    @property
    @abstractmethod
    def kind(self) -> int:
        """The `ggml_type` of the values that `read` returns."""

    @property
    @abstractmethod
    def stored(self) -> StoredTensor | None:
        """The tensor in the checkpoint, or the first of several; None if the rows are computed."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the checkpoint that all rows together take."""

    @abstractmethod
    def read(self, first: int, count: int) -> Bytes:
        """Read `count` rows, beginning at row `first`, as bytes of type `kind`.

        Raises:
            LocalmtpError: the checkpoint cannot be read.
        """


@dataclass(frozen=True, slots=True)
class ComputedRows(Rows):
    """Values that are not in the checkpoint."""

    values: Floats
    """[rows, width], or [width]."""

    @property
    def kind(self) -> int:
        """F32."""
        return F32

    @property
    def stored(self) -> None:
        """None."""
        return None

    @property
    def nbytes(self) -> int:
        """0."""
        return 0

    def read(self, first: int, count: int) -> Bytes:
        """Return the values of some rows."""
        rows = self.values.reshape(-1, self.values.shape[-1])
        return rows[first : first + count].reshape(-1).view(np.uint8)


@dataclass(frozen=True, slots=True)
class StoredRows(Rows):
    """Rows of a tensor, all of them or runs of them in another order."""

    tensor: StoredTensor
    width: int
    """Values per row."""
    runs: tuple[Run, ...] | None = None
    """Runs of the tensor's rows; None: all in their order."""

    @property
    def kind(self) -> int:
        """Type of the tensor."""
        return GGML_TYPES[self.tensor.dtype]

    @property
    def stored(self) -> StoredTensor:
        """The tensor."""
        return self.tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the runs."""
        if self.runs is None:
            return self.tensor.size
        return self._row * sum(count for _, count in self.runs)

    @property
    def _row(self) -> int:
        """Bytes per row."""
        return self.tensor.size // prod(self.tensor.shape) * self.width

    def read(self, first: int, count: int) -> Bytes:
        """Read some rows, with one access to the file for each run."""
        if self.runs is None:
            return self.tensor.read(first * self._row, count * self._row)
        parts = [
            self.tensor.read(start * self._row, rows * self._row)
            for start, rows in _cut(self.runs, first, count)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class StackedRows(Rows):
    """Rows of several tensors of the same shape and type, one after another."""

    tensors: Sequence[StoredTensor]
    width: int
    """Values per row."""

    @property
    def kind(self) -> int:
        """Type of the tensors."""
        return GGML_TYPES[self.tensors[0].dtype]

    @property
    def stored(self) -> StoredTensor:
        """The first tensor."""
        return self.tensors[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    def read(self, first: int, count: int) -> Bytes:
        """Read rows, which must be of one tensor."""
        tensor_rows = prod(self.stored.shape) // self.width
        index, start = divmod(first, tensor_rows)
        row = self.stored.size // tensor_rows
        return self.tensors[index].read(start * row, count * row)


@dataclass(frozen=True, slots=True)
class ReorderedColumns(Rows):
    """Rows whose columns are in another order."""

    rows: Rows
    columns: NDArray[np.intp]
    """[width]: column of the checkpoint for each column of the file."""

    @property
    def kind(self) -> int:
        """Type of the rows."""
        return self.rows.kind

    @property
    def stored(self) -> StoredTensor | None:
        """The tensor in the checkpoint."""
        return self.rows.stored

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.rows.nbytes

    def read(self, first: int, count: int) -> Bytes:
        """Read some rows."""
        values = self.rows.read(first, count).reshape(count, self.columns.size, -1)
        return values[:, self.columns].reshape(-1)


@dataclass(frozen=True, slots=True)
class ComputedValues(Rows):
    """Rows whose values are computed from the stored ones."""

    rows: Rows
    function: Callable[[Floats], Floats]

    @property
    def kind(self) -> int:
        """F32."""
        return F32

    @property
    def stored(self) -> StoredTensor | None:
        """The tensor in the checkpoint."""
        return self.rows.stored

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.rows.nbytes

    def read(self, first: int, count: int) -> Bytes:
        """Read and compute some rows."""
        floats = to_floats(self.rows.read(first, count), self.rows.kind)
        return np.ascontiguousarray(self.function(floats), np.float32).view(np.uint8)


def _cut(runs: Sequence[Run], first: int, count: int) -> Iterator[Run]:
    """Yield the runs of `count` rows that begin with row `first` of all runs."""
    for start, rows in runs:
        if not count:
            return
        if first >= rows:
            first -= rows
            continue
        taken = min(rows - first, count)
        yield start + first, taken
        first, count = 0, count - taken
