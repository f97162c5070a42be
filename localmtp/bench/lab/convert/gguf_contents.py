"""Contents of GGUF files as values that can be compared."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from gguf import GGUFReader

COMPUTED = re.compile(r"per_dim_scale|\.ssm_a$")
"""Tensors that are computed (a softplus, an exponential); all others are copied or rounded."""

_LONGEST_LIST = 50
"""Longer metadata lists, such as vocabularies, are replaced by a digest."""

Tensors = dict[str, tuple[str, tuple[int, ...], str]]
"""Name → type, shape (columns first, as GGUF stores it), SHA-256 of the data."""


def tensors(path: Path) -> Tensors:
    """Read type, shape and digest of every tensor."""
    return {
        t.name: (
            t.tensor_type.name,
            tuple(int(n) for n in t.shape),
            sha256(t.data.tobytes()).hexdigest(),
        )
        for t in GGUFReader(path).tensors
    }


def metadata(path: Path) -> dict[str, Any]:
    """Read the metadata: key → [names of the value types, value]."""
    values = {}
    for key, field in GGUFReader(path).fields.items():
        if key.startswith("GGUF."):
            continue
        value = field.contents()
        if isinstance(value, list) and len(value) > _LONGEST_LIST:
            value = sha256(repr(value).encode()).hexdigest()
        values[key] = [[kind.name for kind in dict.fromkeys(field.types)], value]
    return values


def digest(path: Path) -> str:
    """SHA-256 over names, types, shapes and data of all tensors.

    The data of `COMPUTED` tensors is left out: the last bit of torch's functions depends on the
    processor.
    """
    found = {
        name: (kind, shape, "" if COMPUTED.search(name) else data)
        for name, (kind, shape, data) in tensors(path).items()
    }
    return sha256(repr(sorted(found.items())).encode()).hexdigest()
