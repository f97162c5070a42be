"""Conversion jobs: everything that can be checked and decided before the first byte is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from localmtp.convert.architectures.base import Architecture, HeadPart, ModelRole, Vocabulary
from localmtp.convert.architectures.detect import read_architecture
from localmtp.convert.architectures.tensor_plan import PlannedTensor, plan_tensors, source_type
from localmtp.convert.huggingface.checkpoint import Checkpoint, open_checkpoint
from localmtp.convert.output.metadata import Provenance, write_provenance, write_quantization
from localmtp.convert.output.quantize import QuantizationSpec, file_type, tensor_types
from localmtp.engine.llama import ggml


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
    model: Architecture
    provenance: Provenance
    target: Provenance | None
    """The target of a drafter, if it is converted in the same run."""
    vocabulary: Vocabulary
    tensors: Sequence[PlannedTensor]
    files: Sequence[PlannedFile]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes to read from the checkpoint."""
        return sum(tensor.source.nbytes for tensor in self.tensors)

    def writer(self, file: PlannedFile, part_size: int) -> GGUFWriter:
        """Build the metadata and the tensor table of a file; nothing is written yet.

        Args:
            file: one of `files`.
            part_size: maximum size of a part's tensors in bytes; 0: do not split.

        Raises:
            LocalmtpError: the model card, a sampling value or the tokenizer is malformed.
        """
        writer = GGUFWriter(None, self.model.gguf_name, split_max_size=part_size)
        for tensor in self.tensors:
            kind = file.types[tensor.name]
            size = _size(tensor, kind)
            shape = tensor.shape
            # libllama's quantizer writes matrices of one row as vectors.
            while file.quantization.quantizes and len(shape) > 1 and shape[0] == 1:
                shape = shape[1:]
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size, kind)
        write_provenance(writer, self.checkpoint, self.provenance, self.target)
        self.model.write_settings(writer)
        write_quantization(writer, file_type(file.quantization.name))
        if file.quantization.imatrix and file.quantization.importance:
            file.quantization.imatrix.write(writer)
        self.vocabulary.write(writer)
        return writer


def plan_job(
    directory: Path,
    provenance: Provenance,
    quantizations: Sequence[QuantizationSpec],
    out: Path,
    *,
    part: HeadPart = HeadPart.ALL,
    target: ConversionJob | None = None,
) -> ConversionJob:
    """Read and check a checkpoint, and decide which files to write with which types.

    Args:
        directory: the checkpoint.
        provenance: name and origin of the model.
        quantizations: one per file.
        out: directory for the files.
        part: parts to write of a model with an MTP head.
        target: job of the drafter's target, if the pair is converted together.

    Raises:
        LocalmtpError: the checkpoint cannot be converted, or does not belong to the target.
    """
    checkpoint = open_checkpoint(directory)
    model = read_architecture(checkpoint, part)
    if target is not None:
        target.model.require_drafter(model, target.checkpoint, checkpoint)
    tensors = plan_tensors(model, checkpoint)
    kind = source_type(tensors)
    files = []
    for quantization in quantizations:
        if quantization.imatrix is not None:
            quantization.imatrix.require_fit(tensors)
        types = tensor_types(model, tensors, quantization, kind)
        size = sum(_size(tensor, types[tensor.name]) for tensor in tensors)
        path = out / f"{_stem(model.role, provenance, target)}-{quantization.name}.gguf"
        files.append(PlannedFile(path, quantization, types, size))
    return ConversionJob(
        checkpoint,
        model,
        provenance,
        target.provenance if target else None,
        model.vocabulary(checkpoint),
        tensors,
        files,
    )


def _size(tensor: PlannedTensor, kind: int) -> int:
    return prod(tensor.shape[:-1]) * ggml.row_size(kind, tensor.shape[-1])


def _stem(role: ModelRole, provenance: Provenance, target: ConversionJob | None) -> str:
    """File name without quantization; a drafter or head is named after its target.

    llama.cpp finds it next to the target by the prefix `mtp-`.
    """
    if role is ModelRole.TARGET:
        return provenance.file_name
    named_after = target.provenance if target is not None else provenance
    return f"mtp-{named_after.file_name.removesuffix('-assistant')}"
