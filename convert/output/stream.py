"""One pass over a checkpoint that writes every requested quantization.

Blocks of rows are read, checked and quantized on several threads and written in order; memory use
is a few blocks per thread, independent of the model's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

from localmtp.convert.architectures.tensor_plan import PlannedTensor
from localmtp.convert.output.gguf_file import GgufFile
from localmtp.convert.output.quantize import encode_rows
from localmtp.engine.llama.ggml import Bytes, Floats
from localmtp.errors import LocalmtpError

_BLOCK = 4 << 20
"""Values per block: 16 MB as float32, which makes the overhead per block negligible."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that receives all tensors in its own types."""

    file: GgufFile
    types: Mapping[str, int]
    """Tensor name → `ggml_type`."""
    importance: Mapping[str, Floats]
    """Tensor name → [experts * width]; empty without an importance matrix."""


def stream_tensors(
    tensors: Sequence[PlannedTensor], outputs: Sequence[OutputFile], threads: int
) -> Generator[int, None, None]:
    """Write all tensors into all outputs.

    Args:
        tensors: in the order of the files.
        outputs: files whose headers are written.
        threads: number of threads that read and quantize.

    Yields:
        Bytes of the checkpoint processed since the previous item.

    Raises:
        LocalmtpError: a weight cannot be encoded, or the checkpoint changed during the run.
    """
    waiting: deque[tuple[_RowBlock, Future[list[Bytes]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for block in _blocks(tensors):
                waiting.append((block, pool.submit(_encode_block, block, outputs)))
                # One block per thread in progress, and one queued.
                if len(waiting) > 2 * threads:
                    yield _write_next(waiting, outputs)
            while waiting:
                yield _write_next(waiting, outputs)
        finally:
            for _, future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True)
class _RowBlock:
    """Consecutive rows of one matrix, all of the same expert."""

    tensor: PlannedTensor
    first: int
    rows: int
    expert: int

    @property
    def width(self) -> int:
        return self.tensor.shape[-1]

    @property
    def size(self) -> int:
        """Bytes in the checkpoint; 0 for tensors that are computed."""
        return self.tensor.source.nbytes // prod(self.tensor.shape) * self.rows * self.width


def _blocks(tensors: Sequence[PlannedTensor]) -> Iterator[_RowBlock]:
    for tensor in tensors:
        rows = prod(tensor.shape[:-1])
        # A block has rows of one expert only: each expert has its own importance weights.
        per_expert = tensor.shape[-2] if len(tensor.shape) == 3 else rows
        step = max(1, _BLOCK // tensor.shape[-1])
        for start in range(0, rows, per_expert):
            for first in range(start, start + per_expert, step):
                count = min(step, start + per_expert - first)
                yield _RowBlock(tensor, first, count, start // per_expert)


def _encode_block(block: _RowBlock, outputs: Sequence[OutputFile]) -> list[Bytes]:
    """Encode the block's rows in the type of each output."""
    source = block.tensor.source
    raw = source.read(block.first, block.rows)
    try:
        types = [_type_and_importance(block, output) for output in outputs]
        return encode_rows(raw, source.kind, (block.rows, block.width), types)
    except ValueError as error:
        stored = source.stored
        assert stored is not None
        raise LocalmtpError(f"{stored.file}: cannot convert {stored.name}: {error}") from None


def _type_and_importance(block: _RowBlock, output: OutputFile) -> tuple[int, Floats | None]:
    """Return the `ggml_type` to write, and the importance [width] of the block's columns."""
    weights = output.importance.get(block.tensor.name)
    if weights is not None:
        weights = weights[block.expert * block.width :][: block.width]
    return output.types[block.tensor.name], weights


def _write_next(
    waiting: deque[tuple[_RowBlock, Future[list[Bytes]]]], outputs: Sequence[OutputFile]
) -> int:
    block, future = waiting.popleft()
    for output, data in zip(outputs, future.result(), strict=True):
        output.file.write(data)
    return block.size
