"""Draft models made from nano: the same weights with noise, so that some drafts are rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader

from localmtp.models import resolve


def noisy(path: Path, noise: float = 0.3) -> Path:
    """Writes a copy of nano's target whose last norm has noise; 0 for an exact copy."""
    source = resolve("nano").target
    data = bytearray(source.read_bytes())
    tensor = next(t for t in GGUFReader(str(source)).tensors if t.name == "output_norm.weight")
    start, end = tensor.data_offset, tensor.data_offset + tensor.n_bytes
    weights = np.frombuffer(data[start:end], np.float32)
    factors = 1 + noise * np.random.default_rng(0).standard_normal(weights.size)
    data[start:end] = (weights * factors).astype(np.float32).tobytes()
    path.write_bytes(data)
    return path
