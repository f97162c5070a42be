"""Conversion jobs: everything that can be checked and decided before the first byte is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from localmtp.convert.huggingface.checkpoint import Checkpoint, open_checkpoint
from localmtp.convert.huggingface.config import Gemma4Config, read_config
from localmtp.convert.huggingface.safetensors import StoredTensor
from localmtp.convert.huggingface.tensor_map import PlannedTensor, plan_tensors, source_type
from localmtp.convert.huggingface.tokenizer import Tokenizer
from localmtp.convert.output.metadata import (
    Provenance,
    write_architecture,
    write_provenance,
    write_quantization,
    write_suppressed_tokens,
)
from localmtp.convert.output.quantize import QuantizationSpec, file_type, tensor_types
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A GGUF file to write."""

    path: Path
    quantization: QuantizationSpec
    types: Mapping[str, GGMLQuantizationType]
    """Tensor name → type."""
    size: int
    """Size of the tensors in bytes."""


@dataclass(frozen=True, slots=True)
class ConversionJob:
    """One checkpoint, parsed and checked, and the files to write from it."""

    checkpoint: Checkpoint
    config: Gemma4Config
    provenance: Provenance
    target: Provenance | None
    """The target of a drafter, if it is converted in the same run."""
    tokenizer: Tokenizer
    tensors: Sequence[PlannedTensor]
    files: Sequence[PlannedFile]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes to read from the checkpoint."""
        return sum(t.source.size for t in self.tensors if isinstance(t.source, StoredTensor))

    def writer(self, file: PlannedFile, part_size: int) -> GGUFWriter:
        """Build the metadata and the tensor table of a file; nothing is written yet.

        Args:
            file: one of `files`.
            part_size: maximum size of a part's tensors in bytes; 0: do not split.

        Raises:
            LocalmtpError: the model card, a sampling value or the tokenizer is malformed.
        """
        writer = GGUFWriter(None, self.config.architecture, split_max_size=part_size)
        for tensor in self.tensors:
            kind = file.types[tensor.name]
            size = _size(tensor, kind)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
        write_provenance(writer, self.checkpoint, self.provenance, self.target)
        write_architecture(writer, self.config)
        write_quantization(writer, file_type(file.quantization.name))
        if file.quantization.imatrix and file.quantization.importance:
            file.quantization.imatrix.write(writer)
        self.tokenizer.write(writer)
        write_suppressed_tokens(writer, self.checkpoint, self.config)
        return writer


def plan_job(
    directory: Path,
    provenance: Provenance,
    quantizations: Sequence[QuantizationSpec],
    out: Path,
    target: ConversionJob | None = None,
) -> ConversionJob:
    """Read and check a checkpoint, and decide which files to write with which types.

    Args:
        directory: the checkpoint.
        provenance: name and origin of the model.
        quantizations: one per file.
        out: directory for the files.
        target: job of the drafter's target, if the pair is converted together.

    Raises:
        LocalmtpError: the checkpoint cannot be converted, or does not belong to the target.
    """
    checkpoint = open_checkpoint(directory)
    config = read_config(checkpoint)
    if target is not None:
        _require_pair(config, directory, target)
    tensors = plan_tensors(config, checkpoint)
    kind = source_type(tensors)
    files = []
    for quantization in quantizations:
        if quantization.imatrix is not None:
            quantization.imatrix.require_fit(tensors)
        types = tensor_types(config, tensors, quantization, kind)
        size = sum(_size(tensor, types[tensor.name]) for tensor in tensors)
        path = out / f"{_stem(config, provenance, target)}-{quantization.name}.gguf"
        files.append(PlannedFile(path, quantization, types, size))
    return ConversionJob(
        checkpoint,
        config,
        provenance,
        target.provenance if target else None,
        Tokenizer(directory, config.vocab),
        tensors,
        files,
    )


def _size(tensor: PlannedTensor, kind: int) -> int:
    return prod(tensor.shape[:-1]) * ggml.row_size(kind, tensor.shape[-1])


def _stem(config: Gemma4Config, provenance: Provenance, target: ConversionJob | None) -> str:
    """File name without quantization; a drafter is named after its target.

    llama.cpp finds a drafter next to its target by the prefix `mtp-`.
    """
    if config.backbone is None:
        return provenance.file_name
    named_after = target.provenance if target is not None else provenance
    return f"mtp-{named_after.file_name.removesuffix('-assistant')}"


def _require_pair(drafter: Gemma4Config, directory: Path, target: ConversionJob) -> None:
    """Refuse a drafter whose layers cannot read the target's keys and values."""
    if drafter.backbone is None:
        raise LocalmtpError(
            f"{directory} is a target, not a drafter",
            hint="Gemma 4's drafters are the repositories that end in -assistant",
        )
    model = target.config
    if model.backbone is not None:
        raise LocalmtpError(
            f"{target.checkpoint.directory} is a drafter, not a target",
            hint="give the target first and its drafter second",
        )
    last = model.layers - 1, drafter.layers - 1
    for what, theirs, ours in (
        ("hidden size", model.hidden, drafter.backbone),
        ("vocabulary", model.vocab, drafter.vocab),
        ("sliding window", model.window, drafter.window),
        ("head size", model.head_dim, drafter.head_dim),
        ("full-attention head size", model.global_head_dim, drafter.global_head_dim),
        ("number of key-value heads", model.kv_heads, drafter.kv_heads),
        (
            "number of full-attention key-value heads",
            model.kv_heads_at(last[0]),
            drafter.kv_heads_at(last[1]),
        ),
    ):
        if theirs != ours:
            raise LocalmtpError(
                f"{directory} is the drafter of another target: its {what} is {ours}, "
                f"{target.checkpoint.directory} has {theirs}"
            )
