"""Recorded results of llama.cpp's converter, and the marker of tests that run it.

    LOCALMTP_LLAMA_CPP=DIR LOCALMTP_LLAMA_CPP_BIN=DIR LOCALMTP_REFERENCE_PYTHON=PATH pytest

official.json records what `convert_hf_to_gguf.py` wrote for every shape, for tests to compare with;
`python -m tests.convert.official` regenerates it. Quantized data is not recorded: the search for
the best scales may round differently on another processor.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from localmtp.bench.lab.convert import reference
from localmtp.bench.lab.convert.gguf_contents import digest, metadata
from tests.convert.checkpoints import SHAPES, write_checkpoint
from tests.convert.towers import TOWERS, write_multimodal

RECORDED = Path(__file__).with_name("official.json")

needs_llama_cpp = pytest.mark.skipif(
    not reference.available(),
    reason=f"needs llama.cpp's own tools ({', '.join(reference.VARIABLES)})",
)


def recorded() -> dict[str, dict[str, Any]]:
    """Shape → metadata of the BF16 file, and digests of the tensors in each output type."""
    found: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())
    return found


def _record() -> None:
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for shape in SHAPES:
            checkpoint = write_checkpoint(Path(folder, reference.folder_name(shape)), shape)
            results[shape] = _result(checkpoint)
        for shape in TOWERS:
            directory = Path(folder, "towers", reference.folder_name(shape))
            results[f"{shape}-mmproj"] = _result(write_multimodal(directory, shape), "--mmproj")
    RECORDED.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _result(checkpoint: Path, *flags: str) -> dict[str, Any]:
    digests = {}
    for output_type in reference.OUTPUT_TYPES:
        path = checkpoint.with_name(f"{checkpoint.name}-{output_type}.gguf")
        reference.convert(checkpoint, output_type, path, *flags)
        digests[output_type] = digest(path)
    return {"digests": digests, "metadata": metadata(path)}


if __name__ == "__main__":
    _record()
