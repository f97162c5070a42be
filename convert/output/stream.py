"""One pass over a checkpoint: its rows are read once, and written in every type asked for.

Blocks of rows are read, checked and quantized on several threads and written in order; only a
few blocks are in memory at a time, whatever the size of the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numpy as np

from localmtp.convert.huggingface.checkpoint import KINDS, StoredTensor
from localmtp.convert.huggingface.tensors import Tensor
from localmtp.convert.output.quantize import encode
from localmtp.convert.output.writer import GgufFile
from localmtp.engine.llama.ggml import F32, Bytes, Floats
from localmtp.errors import LocalmtpError

_BLOCK = 4 << 20
"""Numbers per block: 16 MB as float32, small beside the weights and large beside the overhead."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file that the pass feeds."""

    file: GgufFile
    types: Mapping[str, int]
    """`ggml_type` per tensor."""
    importance: Mapping[str, Floats]
    """Importance matrix; empty without one."""


def stream(
    tensors: Sequence[Tensor], outputs: Sequence[Output], threads: int
) -> Generator[int, None, None]:
    """Write the tensors into all outputs.

    Args:
        tensors: in the order of the files.
        outputs: files whose headers are written.
        threads: that read and quantize.

    Yields:
        Bytes of the checkpoint that have been dealt with since the last time.

    Raises:
        LocalmtpError: a weight is not finite, or the checkpoint has changed meanwhile.
    """
    waiting: deque[tuple[_Block, Future[list[Bytes]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for block in _blocks(tensors):
                waiting.append((block, pool.submit(_encode_block, block, outputs)))
                # One block per thread at work, one more each in reserve.
                if len(waiting) > 2 * threads:
                    yield _write_next(waiting, outputs)
            while waiting:
                yield _write_next(waiting, outputs)
        finally:
            for _, future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True)
class _Block:
    """Consecutive rows of one matrix."""

    tensor: Tensor
    first: int
    rows: int
    expert: int

    @property
    def width(self) -> int:
        return self.tensor.shape[-1]

    @property
    def size(self) -> int:
        """Bytes in the checkpoint; of tensors that are not from there, none."""
        source = self.tensor.source
        if not isinstance(source, StoredTensor):
            return 0
        return source.size // prod(source.shape) * self.rows * self.width


def _blocks(tensors: Sequence[Tensor]) -> Iterator[_Block]:
    for tensor in tensors:
        rows = prod(tensor.shape[:-1])
        # An expert's rows stay together: each expert has its own importance weights.
        per_expert = tensor.shape[-2] if len(tensor.shape) == 3 else rows
        step = max(1, _BLOCK // tensor.shape[-1])
        for start in range(0, rows, per_expert):
            for first in range(start, start + per_expert, step):
                count = min(step, start + per_expert - first)
                yield _Block(tensor, first, count, start // per_expert)


def _encode_block(block: _Block, outputs: Sequence[Output]) -> list[Bytes]:
    """The block's rows in the type of each output."""
    source = block.tensor.source
    if isinstance(source, StoredTensor):
        kind = KINDS[source.dtype]
        raw = source.read(block.first * (block.size // block.rows), block.size)
    else:
        kind, raw = F32, source.view(np.uint8)
    try:
        return encode(raw, kind, (block.rows, block.width), [_wanted(block, o) for o in outputs])
    except ValueError as error:
        assert isinstance(source, StoredTensor)
        raise LocalmtpError(f"{source.file}: {source.name} cannot be converted: {error}") from None


def _wanted(block: _Block, output: Output) -> tuple[int, Floats | None]:
    """The type to write, and the importance of the block's columns."""
    weights = output.importance.get(block.tensor.name)
    if weights is not None:
        weights = weights[block.expert * block.width :][: block.width]
    return output.types[block.tensor.name], weights


def _write_next(
    waiting: deque[tuple[_Block, Future[list[Bytes]]]], outputs: Sequence[Output]
) -> int:
    block, future = waiting.popleft()
    for output, data in zip(outputs, future.result(), strict=True):
        output.file.write(data)
    return block.size
