"""Tiny checkpoints for tests; the laboratory writes them."""

from localmtp.bench.lab.convert.checkpoints import (
    SHAPES,
    VOCAB,
    full_config,
    model_tensors,
    text_config,
    values,
    write_checkpoint,
    write_json,
    write_safetensors,
)

__all__ = [
    "SHAPES",
    "VOCAB",
    "full_config",
    "model_tensors",
    "text_config",
    "values",
    "write_checkpoint",
    "write_json",
    "write_safetensors",
]
