"""GGUF files as values that can be compared."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from gguf import GGUFReader

Tensors = dict[str, tuple[str, tuple[int, ...], str]]


def tensors(path: Path) -> Tensors:
    """Name → type, shape, and a digest of the bytes."""
    return {
        t.name: (
            t.tensor_type.name,
            tuple(int(n) for n in t.shape),
            sha256(t.data.tobytes()).hexdigest(),
        )
        for t in GGUFReader(path).tensors
    }


def metadata(path: Path) -> dict[str, Any]:
    """Key → [value type, value]; long lists as a digest."""
    values = {}
    for key, field in GGUFReader(path).fields.items():
        if key.startswith("GGUF."):
            continue
        value = field.contents()
        if isinstance(value, list) and len(value) > 50:
            value = sha256(repr(value).encode()).hexdigest()
        values[key] = [[kind.name for kind in dict.fromkeys(field.types)], value]
    return values


def digest(path: Path) -> str:
    """Of all tensors: names, types, shapes and bytes."""
    return sha256(repr(sorted(tensors(path).items())).encode()).hexdigest()
