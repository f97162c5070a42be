"""Finding the architecture of a checkpoint by its class in transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from localmtp.convert.architectures import gemma4, qwen35
from localmtp.convert.architectures.base import Architecture, HeadPart
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.errors import LocalmtpError


class Family(Protocol):
    """The package of an architecture."""

    @property
    def CLASSES(self) -> Sequence[str]:  # noqa: N802 - a constant of the package
        """Classes in transformers."""

    def read(self, checkpoint: Checkpoint, hf_class: str, part: HeadPart) -> Architecture:
        """Read a checkpoint's configuration."""


_FAMILIES: tuple[Family, ...] = (gemma4, qwen35)

_MAX_CLASS_NAME = 80
"""Longest class name, which errors quote."""


def read_architecture(checkpoint: Checkpoint, part: HeadPart = HeadPart.ALL) -> Architecture:
    """Read the architecture and sizes from a checkpoint's configuration.

    Args:
        checkpoint: config.json is read, and names of tensors.
        part: parts to write of a model with an MTP head.

    Raises:
        LocalmtpError: the class is not supported, the checkpoint is quantized, or a value is
            invalid.
    """
    hf_class = _hf_class(checkpoint)
    family = next((family for family in _FAMILIES if hf_class in family.CLASSES), None)
    if family is None:
        names = [name for each in _FAMILIES for name in each.CLASSES]
        raise LocalmtpError(
            f"{checkpoint.directory} is a {hf_class}, which is not supported",
            hint="llama.cpp's convert_hf_to_gguf.py converts other architectures; "
            f"supported classes: {', '.join(names)}",
        )
    if quantized := checkpoint.config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise LocalmtpError(
            f"{checkpoint.directory} is already quantized ({str(method)[:60]})",
            hint="convert the BF16, F16 or F32 checkpoint that it was quantized from",
        )
    return family.read(checkpoint, hf_class, part)


def _hf_class(checkpoint: Checkpoint) -> str:
    match checkpoint.config.get("architectures"):
        case [str(name), *_]:
            return name[:_MAX_CLASS_NAME]
    raise LocalmtpError(f"{checkpoint.directory / 'config.json'} has no architectures")
