"""GGUF files as values that can be compared."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from gguf import GGUFReader

COMPUTED = "per_dim_scale"
"""A softplus of what the checkpoint holds; everything else is copied or rounded."""

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
    """Of all tensors: names, types, shapes and bytes.

    But for the bytes of the scales that are computed: torch's last bit depends on the processor.
    """
    found = {
        name: (kind, shape, "" if COMPUTED in name else data)
        for name, (kind, shape, data) in tensors(path).items()
    }
    return sha256(repr(sorted(found.items())).encode()).hexdigest()
