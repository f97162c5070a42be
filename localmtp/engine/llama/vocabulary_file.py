"""A corrected vocabulary, to be loaded instead of that of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VocabularyFile:
    """A GGUF file without tensors whose vocabulary replaces that of a model."""

    path: Path
    architecture: str
    """Architecture of the model, which determines the key of the vocabulary's size."""
    size: int
    """Number of tokens."""
    repeated: Mapping[int, int] = field(default_factory=dict)
    """Tokens that have the text of another one in the model file, with that one."""
