"""Estimates of the memory that a pair needs, in main memory and on GPUs.

The figures are those of libllama's buffers; a test compares them with what libllama reports for
every size. Layers are offloaded by libllama's rule (`llama_model::load_tensors`): input embeddings
stay in main memory, the last layers are offloaded first, the output matrix before them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from localmtp.engine.device_options import drafter_offloaded, repacks
from localmtp.engine.kv_type import KVType
from localmtp.engine.load_options import LoadOptions
from localmtp.engine.recurrent import draft_limit
from localmtp.limits import BATCH_ROWS, DEFAULT_CONTEXT, most_image_tokens
from localmtp.models.gguf_header import Header
from localmtp.models.memory.shape import ModelShape

ACCEPTANCE = 0.65
"""Acceptance rate at any draft position, between the published ones for code and for prose."""

_CELL_BLOCK = 256  # libllama rounds the cells of a KV cache up to this
_MASK = 2  # bytes per element of an attention mask
_FLOAT = 4


_DRAFTER_BUFFERS = 3 << 20
"""An MTP assistant has no KV cache of its own; its buffers took 2 MB in every size."""

_PROJECTOR_BUFFERS = 256 << 20
"""Working memory of a projector. An image of 256 tokens took 98 MiB with the encoder of 26B and
31B, 62 MiB with that of E2B and E4B; the convolutions of 30 seconds of sound have 200 MB."""

_PER_IMAGE_TOKEN = 400 << 10
"""Working memory of a projector for each token of an image: 382 kB with the largest encoder."""

_OUTPUTS = 17 << 20
"""Logits of the longest draft of a sequence, for a vocabulary of 262,144. Those of the first
sequence are within the error of the buffers."""

_PROGRAM = 200 << 20
"""Interpreter, libraries and vocabulary tables, measured for a vocabulary of 262,144."""

_EMBEDDING = "token_embd.weight"
_BLOCK = re.compile(r"blk\.(\d{1,4})\.")
_EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps")


@dataclass(frozen=True, slots=True)
class Weights:
    """Sizes of the weights of a pair, in bytes."""

    target: int
    drafter: int = 0
    """0 without a drafter."""
    layers: tuple[int, ...] = ()
    """Bytes by layer of the target; empty if unknown."""
    experts: tuple[int, ...] = ()
    """Bytes of experts by layer, part of `layers`; empty without experts, or if unknown."""
    placed: int = 0
    """Bytes of tensors placed on GPUs by name, not part of `layers`."""
    largest_expert: int = 0
    """Bytes of the largest tensor of experts."""
    embedding: int = 0
    """Token embeddings of the target. A GPU with the last layers has a second copy of them, as the
    output matrix."""
    projector: int = 0
    """0 without one."""
    drafter_width: int = 0
    """Elements of keys and values per token in the KV cache of a draft model; 0 for other kinds."""
    drafter_heads: int = 1
    """Number of MTP heads in a file of their own."""
    drafter_scratch: int = 0
    """Floats of working memory of a draft model per row of a batch."""

    @property
    def on_disk(self) -> int:
        """Bytes of all files."""
        return self.target + self.drafter + self.projector

    @property
    def all_layers(self) -> int:
        """Number of layers as libllama counts them: the output is one more."""
        return len(self.layers) + 1

    def spread_over(self, layers: int, expert_share: float = 0.0) -> Weights:
        """Returns the same weights divided evenly among layers, unless they are known.

        Args:
            layers: number of layers.
            expert_share: share of the weights that are experts.
        """
        if self.layers:
            return self
        known = (self.target // max(1, layers),) * layers
        experts = tuple(int(expert_share * each) for each in known) if expert_share else ()
        return replace(
            self, layers=known, experts=experts, largest_expert=max((0, *experts)) * 2 // 3
        )


def weights_of(
    header: Header, target: int, drafter: int, overrides: Sequence[tuple[str, str]] = ()
) -> Weights:
    """Returns the weights of a pair.

    Args:
        header: of the target; without tensor table the layers are unknown.
        target: size of the target's files in bytes.
        drafter: size of the drafter's file in bytes; 0 without one.
        overrides: see `DeviceOptions`.
    """
    if not header.tensors:
        return Weights(target, drafter)
    layers = [0] * header.number("block_count")
    experts = [0] * len(layers)
    embedding = placed = largest = 0
    patterns = [(re.compile(pattern), place) for pattern, place in overrides]
    for tensor in header.tensors:
        place = next((place for pattern, place in patterns if pattern.search(tensor.name)), None)
        block = _BLOCK.match(tensor.name)
        if place is not None:
            placed += 0 if place == "CPU" else tensor.nbytes
        elif block and int(block[1]) < len(layers):
            layers[int(block[1])] += tensor.nbytes
            if _EXPERTS.search(tensor.name):
                experts[int(block[1])] += tensor.nbytes
                largest = max(largest, tensor.nbytes)
        elif tensor.name == _EMBEDDING:
            embedding = tensor.nbytes
    known = tuple(experts) if any(experts) else ()
    return Weights(target, drafter, tuple(layers), known, placed, largest, embedding)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of a loaded pair, in bytes."""

    weights: int
    kv_cache: int
    """KV cache, and recurrent states, including those for rolling back."""
    buffers: int
    """Working memory of a pass; main memory and every GPU in use have their own."""
    drafter: int
    """Weights and buffers of the drafter; 0 without one."""
    gpu: int = 0
    """Memory on GPUs, with the buffers of one; 0 without any."""
    main: int = 0
    """Main memory, the program included."""
    projector: int = 0
    """Weights and buffers of the projector, reserved in main memory; 0 without one. It is loaded
    into a GPU if one has room left for it."""
    parts: tuple[int, ...] = ()
    """Bytes of weights and KV cache of each offloaded layer, and of the output."""
    drafter_part: int = -1
    """Index in `parts` of the layer whose device holds the drafter; -1: in main memory."""

    @property
    def total(self) -> int:
        """Main and GPU memory."""
        return self.main + self.gpu


def projector_memory(size: int, tokens: int) -> int:
    """Estimates the memory of a loaded projector while it encodes, in bytes.

    Args:
        size: of its file; 0 without one.
        tokens: most tokens of an image.
    """
    return size + max(_PROJECTOR_BUFFERS, _PER_IMAGE_TOKEN * tokens) if size else 0


def estimate_memory(
    shape: ModelShape, weights: Weights, options: LoadOptions | None = None
) -> MemoryEstimate:
    """Estimates the memory of a pair.

    Args:
        shape: of the target.
        weights: of both files; with their layers, if some are offloaded.
        options: a field that is None has its default, and no layer is offloaded.
    """
    options = options or LoadOptions()
    cells = _rounded((options.context or DEFAULT_CONTEXT) * options.parallel)
    batch = min(options.batch or BATCH_ROWS, cells)
    window_cells = min(cells, _rounded(shape.window * options.parallel + batch))
    # Besides the intermediates of the layers: an attention mask for either kind of layer.
    buffers = batch * (_FLOAT * shape.scratch + _MASK * (cells + window_cells))
    buffers += _OUTPUTS * (options.parallel - 1)
    element = (options.kv_type or KVType.F16).bytes_per_element
    drafter = weights.drafter + _DRAFTER_BUFFERS if weights.drafter else 0
    if weights.drafter_width:
        drafter += int(cells * (element * weights.drafter_width + _MASK * batch))
        drafter += _FLOAT * batch * weights.drafter_scratch
    own = weights.drafter_heads if weights.drafter and not weights.drafter_width else 0
    heads = shape.heads or own
    if heads and shape.head_width:
        # Contexts of their own, with 16-bit KV caches.
        per_cell = heads * KVType.F16.bytes_per_element * shape.head_width + _MASK * batch
        drafter += heads * (int(cells * per_cell) + _FLOAT * batch * shape.head_scratch)
    tokens = most_image_tokens(options.image_tokens, multiaxial=shape.multiaxial)
    projector = projector_memory(weights.projector, tokens)
    cache = [0] * shape.layers
    for layer in shape.full_layers:
        cache[layer] = int(element * shape.full_width * cells)
    for layer in shape.sliding_layers:
        cache[layer] = int(element * shape.sliding_width * window_cells)
    for layer in shape.recurrent_layers:
        snapshots = 1 + draft_limit(shape.state)
        cache[layer] = options.parallel * snapshots * shape.state // len(shape.recurrent_layers)
    everything = weights.target + sum(cache) + buffers + drafter + projector + _PROGRAM
    alone = MemoryEstimate(
        weights.target, sum(cache), buffers, drafter, main=everything, projector=projector
    )
    return _offloaded(alone, shape, weights, options, cache) if options.gpu_layers else alone


def _offloaded(
    alone: MemoryEstimate,
    shape: ModelShape,
    weights: Weights,
    options: LoadOptions,
    cache: Sequence[int],
) -> MemoryEstimate:
    """Moves what is offloaded from main memory to GPUs.

    Args:
        alone: without offload.
        shape: of the target.
        weights: of both files, with layers.
        options: with a number of layers.
        cache: bytes of the KV cache of each layer.
    """
    devices, layers = options.devices, options.gpu_layers or 0
    first = max(0, weights.all_layers - layers)
    staying = weights.experts[: devices.cpu_moe or 0]
    kept = dict(enumerate(staying))
    parts = [
        weights.layers[i] - kept.get(i, 0) + (cache[i] if devices.kv_offload else 0)
        for i in range(first, len(weights.layers))
    ]
    moved = sum(parts) + weights.placed
    own = 1 + max((0, *shape.full_layers, *shape.sliding_layers))
    with_gpu = drafter_offloaded(layers, shape.layers, own)
    drafter = alone.drafter if with_gpu else 0
    # Experts in main memory are copied to the GPU for prompts, one tensor at a time.
    copied = weights.largest_expert if any(staying[first:]) and not repacks(devices) else 0
    return replace(
        alone,
        gpu=moved + weights.embedding + alone.buffers + copied + drafter,
        main=alone.main - moved - drafter,
        parts=(*parts, weights.embedding),
        drafter_part=max(0, own - 1 - first) if drafter else -1,
    )


def decode_rate_bound(
    shape: ModelShape, weights: Weights, bandwidth: float, n_draft: int = 0
) -> float:
    """Bounds the decode rate by the time that reading the weights takes.

    Args:
        shape: of the target.
        weights: of both files.
        bandwidth: bytes per second.
        n_draft: tokens drafted per pass; `ACCEPTANCE` of them are accepted at every position.

    Returns:
        Tokens per second.
    """
    read = weights.target * min(1.0, shape.read + n_draft * shape.read_more)
    tokens = sum(ACCEPTANCE**position for position in range(n_draft + 1))
    step = weights.drafter + weights.target * shape.head_read
    return tokens * bandwidth / (read + n_draft * step)


def _rounded(cells: int) -> int:
    return -(-cells // _CELL_BLOCK) * _CELL_BLOCK
