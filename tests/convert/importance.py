"""Importance matrices of tiny models, in the GGUF format of llama-imatrix."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from tests.convert import official


def measure(model: Path, matrix: Path) -> None:
    """What llama-imatrix says of a target, on nonsense."""
    rng = random.Random(1)
    text = matrix.with_suffix(".txt")
    words = ("".join(rng.choices("abcdefghij klm", k=6)) for _ in range(900))
    text.write_text(" ".join(words))
    flags = ["-c", "64", "--chunks", "8", "-ngl", "0", "--output-format", "gguf"]
    subprocess.run(
        [official.tool("llama-imatrix"), "-m", model, "-f", text, "-o", matrix, *flags],
        check=True,
        capture_output=True,
    )


def draw(model: Path, matrix: Path) -> None:
    """Random ones for every matrix of a model."""
    rng = np.random.default_rng(0)
    writer = GGUFWriter(matrix, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["drawn"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 64)
    for tensor in GGUFReader(model).tensors:
        width, _, experts = (int(size) for size in (*tensor.shape, 1, 1)[:3])
        if len(tensor.shape) > 1:
            sums = 1 + 50 * rng.random((experts, width), dtype=np.float32)
            writer.add_tensor(f"{tensor.name}.in_sum2", sums)
            writer.add_tensor(f"{tensor.name}.counts", np.full((experts, 1), 50, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
