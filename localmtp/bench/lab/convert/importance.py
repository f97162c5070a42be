"""Importance matrices of tiny models, in the GGUF format of llama-imatrix."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from localmtp.bench.lab.convert import reference


def measure(model: Path, matrix: Path) -> None:
    """Run llama-imatrix on a target and random letters; the text is saved next to the matrix.

    Raises:
        CalledProcessError: it failed; `stderr` is captured.
    """
    rng = random.Random(1)
    text = matrix.with_suffix(".txt")
    words = ("".join(rng.choices("abcdefghij klm", k=6)) for _ in range(900))
    text.write_text(" ".join(words))
    flags = ["-c", "64", "--chunks", "8", "-ngl", "0", "--output-format", "gguf"]
    subprocess.run(
        [reference.tool("llama-imatrix"), "-m", model, "-f", text, "-o", matrix, *flags],
        check=True,
        capture_output=True,
    )


def draw(model: Path, matrix: Path) -> None:
    """Write random importance for every matrix of a model."""
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
