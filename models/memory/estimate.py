"""How much memory a pair needs, and where: in main memory and on GPUs.

The figures are those of libllama's buffers; a test holds them against what
libllama itself reports for every size. Which layer goes where is libllama's rule as well
(`llama_model::load_tensors`): the input embeddings stay in main memory, the last layers are
offloaded first, the output matrix before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from localmtp.engine.kv_type import KVType
from localmtp.limits import BATCH_ROWS
from localmtp.models.gguf_header import Header
from localmtp.models.memory.shape import Shape

ACCEPTANCE = 0.65
"""Of drafts at any position, in between what is published for code and for prose."""

_CELL_BLOCK = 256  # libllama rounds the KV cache's cells up to this
_MASK = 2  # bytes of an attention mask's element
_FLOAT = 4

_DRAFTER_BUFFERS = 3 << 20
"""A drafter has no KV cache of its own; its buffers were 2 MB for every size."""

_OUTPUTS = 17 << 20
"""Logits of a sequence's longest draft, with a vocabulary of 262,144; those of the first are among
the buffers' error."""

_PROGRAM = 200 << 20
"""Interpreter, libraries and the vocabulary's tables, measured with a vocabulary of 262,144."""

_EMBEDDING = "token_embd.weight"
_BLOCK = re.compile(r"blk\.(\d{1,4})\.")


@dataclass(frozen=True, slots=True)
class Weights:
    """What the files of a pair hold, in bytes."""

    target: int
    drafter: int = 0
    """0 without one."""
    layers: tuple[int, ...] = ()
    """Of every layer of the target; empty where that is not known."""
    embedding: int = 0
    """Of the target's token embeddings; a GPU with the last layers holds them once more, as the
    output matrix."""

    @property
    def all_layers(self) -> int:
        """What libllama counts as all: the layers, and the output as one more."""
        return len(self.layers) + 1

    def spread_over(self, layers: int) -> Weights:
        """The same with about as much in every layer, where they are not known."""
        known = self.layers or (self.target // layers,) * layers
        return replace(self, layers=known)


def weights_of(header: Header, target: int, drafter: int) -> Weights:
    """The weights of a pair.

    Args:
        header: of the target; one read for its settings only does not tell the layers.
        target: bytes of the target's file.
        drafter: bytes of the drafter's file; 0 without one.
    """
    if not header.tensors:
        return Weights(target, drafter)
    layers = [0] * header.number("block_count")
    embedding = 0
    for tensor in header.tensors:
        block = _BLOCK.match(tensor.name)
        if block and int(block[1]) < len(layers):
            layers[int(block[1])] += tensor.nbytes
        elif tensor.name == _EMBEDDING:
            embedding = tensor.nbytes
    return Weights(target, drafter, tuple(layers), embedding)


@dataclass(frozen=True, slots=True)
class Load:
    """How a pair is put on a machine."""

    context: int
    kv_type: KVType = KVType.F16
    batch: int = BATCH_ROWS
    """Rows of the largest prompt batch."""
    gpu_layers: int = 0
    """As libllama counts them: the output is one more."""
    parallel: int = 1
    """Sequences that are decoded together, each with the whole context."""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of a loaded pair, in bytes."""

    weights: int
    kv_cache: int
    buffers: int
    """Working memory of a pass; main memory and every GPU in use have their own."""
    drafter: int
    """Its weights and buffers; 0 without one."""
    gpu: int = 0
    """What lies on GPUs, with the buffers of one; 0 without."""
    main: int = 0
    """What lies in main memory, the program included."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.main + self.gpu


def need(shape: Shape, weights: Weights, load: Load) -> Need:
    """Predict the memory of a pair.

    Args:
        shape: of the target.
        weights: of both files; their layers must be known to put some on a GPU.
        load: context, cache, batch and layers on GPUs.
    """
    cells = _rounded(load.context * load.parallel)
    batch = min(load.batch, cells)
    window_cells = min(cells, _rounded(shape.window * load.parallel + batch))
    # Besides the layers' intermediates: an attention mask for either kind of layer.
    buffers = batch * (_FLOAT * shape.scratch + _MASK * (cells + window_cells))
    buffers += _OUTPUTS * (load.parallel - 1)
    drafter = weights.drafter + _DRAFTER_BUFFERS if weights.drafter else 0
    first = max(0, weights.all_layers - load.gpu_layers)

    def cache(layer: int) -> int:
        full = shape.full_width * cells * sum(i >= layer for i in shape.full_layers)
        slid = shape.sliding_width * window_cells * sum(i >= layer for i in shape.sliding_layers)
        return int(load.kv_type.bytes_per_element * (full + slid))

    kv_cache, main = cache(0), weights.target + buffers + _PROGRAM
    if not load.gpu_layers:
        main += kv_cache + drafter
        return Need(weights.target, kv_cache, buffers, drafter, 0, main)
    offloaded, on_gpu = sum(weights.layers[first:]), cache(first)
    gpu = offloaded + weights.embedding + on_gpu + buffers + drafter
    main += kv_cache - on_gpu - offloaded
    return Need(weights.target, kv_cache, buffers, drafter, gpu, main)


def tokens_per_second(shape: Shape, weights: Weights, bandwidth: float, n_draft: int = 0) -> float:
    """The rate of decoding if reading weights from memory were all that takes time: a bound.

    Args:
        shape: of the target.
        weights: of both files.
        bandwidth: bytes per second.
        n_draft: tokens drafted for each pass, `ACCEPTANCE` of them accepted at every position.
    """
    read = weights.target * min(1.0, shape.read + n_draft * shape.read_more)
    tokens = sum(ACCEPTANCE**position for position in range(n_draft + 1))
    return tokens * bandwidth / (read + n_draft * weights.drafter)


def _rounded(cells: int) -> int:
    return -(-cells // _CELL_BLOCK) * _CELL_BLOCK
