"""Batches: the input of a decode."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi
from numpy.typing import NDArray

from localmtp.engine.llama.library import Owned

_AXES = 4
"""Components of a position with M-RoPE, `GGML_MROPE_SECTIONS`."""


class Batch(Owned):
    """Rows of one decode, filled in place.

    Args:
        rows: capacity.
        n_embd: for a drafter's batch, the length of the hidden state of each token; 0 for a
            target's.
    """

    def __init__(self, rows: int, *, n_embd: int = 0) -> None:
        self.c = capi.llama_batch_init(rows, n_embd, 1)
        self._tokens = (capi.llama_token * rows)()
        if n_embd:
            # llama_batch_init allocates either embd or token; an MTP drafter reads both.
            self.hidden = np.ctypeslib.as_array(self.c.embd, (rows, n_embd))
            self.c.token = ctypes.cast(self._tokens, ctypes.POINTER(capi.llama_token))
        self._finalizer = weakref.finalize(self, _free_batch, self.c, bool(n_embd))
        # Filled row by row: the overhead of a numpy call exceeds the work for the few rows of most
        # passes.
        self.tokens = _numbers(self.c.token, rows, "i")
        self.positions = _numbers(self.c.pos, rows, "i")
        self.wants_logits = _numbers(self.c.logits, rows, "b")
        np.ctypeslib.as_array(self.c.n_seq_id, (rows,))[:] = 1
        # libllama allocates each row's list of sequences separately.
        self._sequence_of = [self.c.seq_id[row] for row in range(rows)]
        self._sequences = [-1] * rows
        self._n_rows = 0
        self.n_outputs = 0
        """Number of rows with logits."""
        self.parts: list[tuple[int, int]] = []
        """Sequence and number of rows of each part, in order."""

    def fill(
        self, tokens: Sequence[int], position: int, *, all_logits: bool, sequence: int = 0
    ) -> None:
        """Replace the content by consecutive tokens of one sequence.

        Args:
            tokens: token ids, at most as many as rows.
            position: position of the first token in the sequence.
            all_logits: compute logits and hidden states for every token; False: for the last one
                only.
            sequence: number of the sequence.
        """
        self.clear()
        self.add(tokens, position, all_logits=all_logits, sequence=sequence)

    def clear(self) -> None:
        """Remove all rows."""
        self.c.n_tokens = self._n_rows = self.n_outputs = 0
        self.parts.clear()

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._n_rows

    def add(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        all_logits: bool,
        sequence: int = 0,
        no_logits: bool = False,
    ) -> None:
        """Append consecutive tokens of one sequence; see `fill`.

        With `no_logits`, not even the last one has logits.
        """
        row = self._n_rows
        in_row, at, wants_logits = self.tokens, self.positions, self.wants_logits
        sequences = self._sequences
        for token in tokens:
            in_row[row] = token
            at[row] = position
            wants_logits[row] = all_logits
            if sequences[row] != sequence:
                sequences[row] = self._sequence_of[row][0] = sequence
            row += 1
            position += 1
        self.parts.append((sequence, len(tokens)))
        self._n_rows = self.c.n_tokens = row
        if no_logits:
            return
        wants_logits[row - 1] = True
        self.n_outputs += len(tokens) if all_logits else 1


class RowBatch(Owned):
    """Rows of one decode that are no tokens: an encoded image or sound.

    Args:
        rows: capacity.
        width: length of a row, the target's embedding length.
        multiaxial: see `Model.multiaxial`.
    """

    def __init__(self, rows: int, width: int, *, multiaxial: bool = False) -> None:
        self.c = capi.llama_batch_init(rows, width, 1)
        allocated = ctypes.cast(self.c.pos, ctypes.c_void_p).value
        self._finalizer = weakref.finalize(self, _free_batch, self.c, False, allocated)
        self._rows = np.ctypeslib.as_array(self.c.embd, (rows, width))
        self._axes = _AXES if multiaxial else 1
        # llama_batch_init allocates one position for each row.
        self._positions = np.zeros(self._axes * rows, np.int32)
        self.c.pos = ctypes.cast(self._positions.ctypes.data, ctypes.POINTER(capi.llama_pos))
        self._wants_logits = np.ctypeslib.as_array(self.c.logits, (rows,))
        np.ctypeslib.as_array(self.c.n_seq_id, (rows,))[:] = 1
        self._sequence_of = [self.c.seq_id[row] for row in range(rows)]
        self.n_outputs = 1
        """Number of rows with logits: the last one."""
        self.parts: list[tuple[int, int]] = []
        """As of `Batch`: one sequence."""

    def fill(
        self, rows: NDArray[np.float32], positions: NDArray[np.int32], *, sequence: int = 0
    ) -> None:
        """Replace the content by consecutive rows of one sequence.

        Args:
            rows: [n, width], at least one and at most the capacity.
            positions: [n], or [3, n] in time, height and width if the batch is multiaxial.
            sequence: number of the sequence.
        """
        n = self.c.n_tokens = len(rows)
        self._rows[:n] = rows
        # Axis by axis; of four axes, none of these models uses the last.
        at = self._positions[: self._axes * n].reshape(self._axes, n)
        at[:3] = positions
        at[3:] = 0
        self._wants_logits[:n] = 0
        self._wants_logits[n - 1] = 1
        for of_row in self._sequence_of[:n]:
            of_row[0] = sequence
        self.parts = [(sequence, n)]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.c.n_tokens)


def _numbers(pointer: Any, rows: int, kind: str) -> memoryview:
    """View an array of libllama's as numbers of a `struct` format `kind`."""
    array = ctypes.cast(pointer, ctypes.POINTER(pointer._type_ * rows)).contents
    return memoryview(array).cast("B").cast(kind)  # type: ignore[call-overload, no-any-return]


def _free_batch(
    batch: capi.llama_batch, borrowed_tokens: bool, positions: int | None = None
) -> None:
    if borrowed_tokens:
        batch.token = None  # ours, not libllama's to free
    if positions is not None:
        batch.pos = ctypes.cast(positions, ctypes.POINTER(capi.llama_pos))
    capi.llama_batch_free(batch)
