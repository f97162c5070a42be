"""Plans of GGUF tensors: names, shapes, and where their rows come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.rows import Rows, StackedRows, StoredRows
from localmtp.convert.huggingface.safetensors import GGML_TYPES, StoredTensor
from localmtp.engine.llama.ggml import F32
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.convert.architectures.base import Architecture

MAX_LAYERS = 512
"""libllama's limit (LLAMA_MAX_LAYERS)."""

MAX_EXPERTS = 1024
"""libllama's limit (LLAMA_MAX_EXPERTS)."""

_MAX_WIDTH = 1 << 20
"""Widest row; two of them are in memory when types are chosen; Gemma 4 has 43,008 at most."""

TensorTable = tuple[tuple[str, str, str], ...]
"""Rows of Hugging Face name, GGUF name, and shape in symbols."""

View = Callable[[StoredRows], Rows]
"""Rows of the GGUF tensor, from those of the checkpoint's tensor."""


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the GGUF file."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as in the checkpoint."""
    source: Rows

    @property
    def stays_f32(self) -> bool:
        """Whether it is stored as F32: vectors, norms, routers, convolutions (small, sensitive)."""
        return (
            len(self.shape) == 1
            or self.name.endswith("_norm.weight")
            or any(part in self.name for part in ("ffn_gate_inp", "ssm_conv1d"))
            or not self.name.endswith(".weight")
        )


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """A tensor that the architecture has, or may have."""

    hf_name: str
    """Plain name, see `plain_name`; with `{expert}`, a tensor for each expert."""
    name: str
    """Name in the GGUF file."""
    shape: tuple[int, ...]
    """Shape in the GGUF file, rows first."""
    required: bool = True
    stored_shape: tuple[int, ...] | None = None
    """Shape in the checkpoint; None: `shape`."""
    view: View | None = None
    """None: the rows are unchanged."""
    experts: int = 0
    """Number of tensors with `{expert}` in their name."""

    @property
    def hf_names(self) -> list[str]:
        """Names of the tensors in the checkpoint, usually one."""
        if not self.experts:
            return [self.hf_name]
        return [self.hf_name.format(expert=i) for i in range(self.experts)]

    @property
    def expected_shape(self) -> tuple[int, ...]:
        """Shape of each tensor in the checkpoint."""
        return self.stored_shape or self.shape[1 if self.experts else 0 :]

    def rows(self, tensors: Sequence[StoredTensor]) -> Rows:
        """Return the rows of the GGUF tensor.

        Args:
            tensors: those of `hf_names`.
        """
        width = self.expected_shape[-1]
        if self.experts:
            return StackedRows(tensors, width)
        rows = StoredRows(tensors[0], width)
        return self.view(rows) if self.view else rows


def fill(
    table: TensorTable,
    sizes: Mapping[str, int],
    hf_prefix: str = "",
    prefix: str = "",
    *,
    required: bool = True,
) -> Iterator[TensorSlot]:
    """Yield the slots of a table.

    Args:
        table: rows of names and shapes.
        sizes: symbol of a shape → size.
        hf_prefix: of the names in the checkpoint.
        prefix: of the names in the GGUF file.
        required: whether the checkpoint must have them.

    Raises:
        LocalmtpError: a width is implausible.
    """
    for hf_name, name, shape in table:
        dimensions = tuple(sizes[symbol] for symbol in shape.split())
        if dimensions[-1] > _MAX_WIDTH:
            raise LocalmtpError(
                f"config.json requires a width of {dimensions[-1]} for {hf_prefix}{hf_name}",
                hint=f"widths of up to {_MAX_WIDTH} are supported",
            )
        yield TensorSlot(hf_prefix + hf_name, prefix + name, dimensions, required)


def plan_tensors(model: Architecture, checkpoint: Checkpoint) -> list[PlannedTensor]:
    """List the tensors of the GGUF file in llama.cpp's order.

    Raises:
        LocalmtpError: a tensor is missing, does not belong to the architecture, or contradicts the
            configuration in shape or data type.
    """
    stored = {plain_name(name): tensor for name, tensor in checkpoint.tensors.items()}
    planned, used = model.computed_tensors(), set[str]()
    for slot in model.slots(list(stored)):
        names = slot.hf_names
        missing = [name for name in names if name not in stored]
        if missing and (slot.required or len(missing) < len(names)):
            raise LocalmtpError(f"{checkpoint.directory} has no tensor {missing[0]}")
        if not missing:
            tensors = [stored[name] for name in names]
            for tensor in tensors:
                _check(tensor, slot, tensors[0])
            planned.append(PlannedTensor(slot.name, slot.shape, slot.rows(tensors)))
            used.update(names)
    for name, source in stored.items():
        if name not in used and not model.leaves_out(name):
            raise LocalmtpError(
                f"{source.file}: {source.name} is not a tensor of {model.hf_class}",
                hint="quantized checkpoints, adapters and other architectures cannot be converted",
            )
    return sorted(planned, key=_llama_cpp_order)


def required_shapes(model: Architecture) -> dict[str, tuple[int, ...]]:
    """Hugging Face name → shape of every tensor that a checkpoint must have."""
    return {slot.hf_name: slot.expected_shape for slot in model.slots() if slot.required}


def source_type(tensors: Sequence[PlannedTensor]) -> int:
    """The `ggml_type` that stores every matrix of the checkpoint without loss."""
    kinds = {t.source.kind for t in tensors if t.source.stored and not t.stays_f32}
    return kinds.pop() if len(kinds) == 1 else F32


def plain_name(name: str) -> str:
    """Strip the prefix: `model.language_model.layers.0.x` → `layers.0.x`."""
    return name.replace("language_model.", "").removeprefix("model.")


def _check(source: StoredTensor, slot: TensorSlot, first: StoredTensor) -> None:
    if source.dtype not in GGML_TYPES or source.dtype != first.dtype:
        raise LocalmtpError(
            f"{source.file}: {source.name} is {source.dtype}",
            hint=f"supported data types: {', '.join(GGML_TYPES)}",
        )
    if source.shape != slot.expected_shape:
        raise LocalmtpError(
            f"{source.file}: {source.name} has the shape {list(source.shape)}, "
            f"but config.json requires {list(slot.expected_shape)}"
        )


def _llama_cpp_order(tensor: PlannedTensor) -> tuple[int, str]:
    """Sort key of llama.cpp's quantizer: by layer, then by name."""
    layer = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(layer[1]) if layer else -1, tensor.name
