"""How much memory a pair needs, and the context that this leaves room for.

The figures are those of libllama's buffers for f16 keys and values and one sequence; a test holds
them against what libllama itself reports for every size.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.models.shape import Shape

BATCH = 512
"""Rows of the largest prompt batch; working memory grows with it."""

ACCEPTANCE = 0.65
"""Of drafts at any position, in between what is published for code and for prose."""

_CELL_BLOCK = 256  # libllama rounds the KV cache's cells up to this
_HALF = 2  # bytes of an f16 element
_FLOAT = 4

_DRAFTER_BUFFERS = 3 << 20
"""A drafter has no KV cache of its own; its buffers were 2 MB for every size."""

_PROGRAM = 200 << 20
"""Interpreter, libraries and the vocabulary's tables, measured with a vocabulary of 262,144."""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of a loaded pair, in bytes."""

    weights: int
    kv_cache: int
    buffers: int
    """Working memory of a pass."""
    drafter: int
    """Its weights and buffers; 0 without one."""

    @property
    def total(self) -> int:
        """All of it, with the program around it."""
        return self.weights + self.kv_cache + self.buffers + self.drafter + _PROGRAM


def need(shape: Shape, weights: int, drafter: int, context: int) -> Need:
    """Predict the memory of a pair.

    Args:
        shape: of the target.
        weights: bytes of the target's file.
        drafter: bytes of the drafter's file; 0 for none.
        context: tokens.
    """
    cells = _rounded(context)
    batch = min(BATCH, cells)
    window_cells = min(cells, _rounded(shape.window + batch))
    kv_cache = _HALF * (
        shape.full_layers * shape.full_width * cells
        + shape.sliding_layers * shape.sliding_width * window_cells
    )
    # Besides the layers' intermediates: an attention mask for either kind of layer.
    buffers = batch * (_FLOAT * shape.scratch + _HALF * (cells + window_cells))
    return Need(weights, kv_cache, buffers, drafter + _DRAFTER_BUFFERS if drafter else 0)


def largest_context(shape: Shape, weights: int, drafter: int, limit: int, memory: int) -> int:
    """The largest context that fits into `memory` bytes: a power of two or `limit`; 0 for none.

    Args:
        shape: of the target.
        weights: bytes of the target's file.
        drafter: bytes of the drafter's file; 0 for none.
        limit: the model's own context.
        memory: bytes that may be used.
    """
    sizes = [limit] + [1 << n for n in range(limit.bit_length(), 10, -1) if 1 << n < limit]
    return next((c for c in sizes if need(shape, weights, drafter, c).total <= memory), 0)


def tokens_per_second(
    shape: Shape, weights: int, drafter: int, bandwidth: float, n_draft: int = 0
) -> float:
    """The rate of decoding if reading weights from memory were all that takes time: a bound.

    Args:
        shape: of the target.
        weights: bytes of the target's file.
        drafter: bytes of the drafter's file.
        bandwidth: bytes per second.
        n_draft: tokens drafted for each pass, `ACCEPTANCE` of them accepted at every position.
    """
    read = weights * min(1.0, shape.read + n_draft * shape.read_more) + n_draft * drafter
    tokens = sum(ACCEPTANCE**position for position in range(n_draft + 1))
    return tokens * bandwidth / read


def _rounded(cells: int) -> int:
    return -(-cells // _CELL_BLOCK) * _CELL_BLOCK
