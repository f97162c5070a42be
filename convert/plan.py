"""Everything about a conversion that can be known, and can be wrong, before a byte is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from localmtp.convert.huggingface.architecture import Spec, read_spec
from localmtp.convert.huggingface.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from localmtp.convert.huggingface.metadata import (
    Origin,
    write_architecture,
    write_origin,
    write_quantization,
    write_suppressed,
)
from localmtp.convert.huggingface.tensors import Tensor, plan_tensors, source_kind
from localmtp.convert.huggingface.tokenizer import Tokenizer
from localmtp.convert.output.quantize import Recipe, file_type, tensor_types
from localmtp.engine.llama import ggml
from localmtp.errors import LocalmtpError


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A GGUF file to write."""

    path: Path
    recipe: Recipe
    types: Mapping[str, GGMLQuantizationType]
    """Per tensor."""
    size: int
    """Bytes of its tensors."""


@dataclass(frozen=True, slots=True)
class Job:
    """A checkpoint, understood, and the files that it becomes."""

    checkpoint: Checkpoint
    spec: Spec
    origin: Origin
    target: Origin | None
    """What a drafter drafts for, where known."""
    tokenizer: Tokenizer
    tensors: Sequence[Tensor]
    files: Sequence[PlannedFile]

    @property
    def weights(self) -> int:
        """How many numbers the model has."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes that are read from the checkpoint."""
        return sum(t.source.size for t in self.tensors if isinstance(t.source, StoredTensor))

    def writer(self, file: PlannedFile, part_size: int) -> GGUFWriter:
        """Metadata and tensors of a file, ready to be written.

        Args:
            file: one of `files`.
            part_size: most bytes of tensors in one part of it; 0: it is not parted.

        Raises:
            LocalmtpError: the model card, a sampling value or the tokenizer is malformed.
        """
        writer = GGUFWriter(None, self.spec.architecture, split_max_size=part_size)
        for tensor in self.tensors:
            kind = file.types[tensor.name]
            size = _size(tensor, kind)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, kind)
        write_origin(writer, self.checkpoint, self.origin, self.target)
        write_architecture(writer, self.spec)
        write_quantization(writer, file_type(file.recipe.name))
        if file.recipe.imatrix and file.recipe.importance:
            file.recipe.imatrix.write(writer)
        self.tokenizer.write(writer)
        write_suppressed(writer, self.checkpoint, self.spec)
        return writer


def plan(
    directory: Path,
    origin: Origin,
    recipes: Sequence[Recipe],
    out: Path,
    target: Job | None = None,
) -> Job:
    """Understand a checkpoint and decide what to write.

    Args:
        directory: the checkpoint.
        origin: what it is called.
        recipes: one per file.
        out: the directory for the files.
        target: with a drafter, the model that it is converted together with.

    Raises:
        LocalmtpError: the checkpoint cannot be converted, or does not belong to the target.
    """
    checkpoint = open_checkpoint(directory)
    spec = read_spec(checkpoint)
    if target is not None:
        _require_pair(spec, directory, target)
    tensors = plan_tensors(spec, checkpoint)
    kind = source_kind(tensors)
    files = []
    for recipe in recipes:
        if recipe.imatrix is not None:
            recipe.imatrix.require_fit(tensors)
        types = tensor_types(spec, tensors, recipe, kind)
        size = sum(_size(tensor, types[tensor.name]) for tensor in tensors)
        path = out / f"{_stem(spec, origin, target)}-{recipe.name}.gguf"
        files.append(PlannedFile(path, recipe, types, size))
    tokenizer = Tokenizer(directory, spec.vocab)
    return Job(
        checkpoint, spec, origin, target.origin if target else None, tokenizer, tensors, files
    )


def _size(tensor: Tensor, kind: int) -> int:
    return prod(tensor.shape[:-1]) * ggml.row_size(kind, tensor.shape[-1])


def _stem(spec: Spec, origin: Origin, target: Job | None) -> str:
    """The files' name without quantization; a drafter is called after its target.

    llama.cpp finds a drafter beside its target by the `mtp-` in its name.
    """
    if spec.backbone is None:
        return origin.file_name
    named_after = target.origin if target is not None else origin
    return f"mtp-{named_after.file_name.removesuffix('-assistant')}"


def _require_pair(drafter: Spec, directory: Path, target: Job) -> None:
    """Refuse a drafter whose layers could not read the target's keys and values."""
    if drafter.backbone is None:
        raise LocalmtpError(
            f"{directory} is a target, not a drafter",
            hint="the drafter of a Gemma 4 is the repository that ends in -assistant",
        )
    model = target.spec
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
                f"{directory} was made for another target: its {what} is {ours}, and that of "
                f"{target.checkpoint.directory} is {theirs}"
            )
