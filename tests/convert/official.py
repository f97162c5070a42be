"""Recorded results of llama.cpp's converter, and the marker of tests that run it.

    LOCALMTP_LLAMA_CPP=DIR LOCALMTP_LLAMA_CPP_BIN=DIR LOCALMTP_REFERENCE_PYTHON=PATH pytest

official.json records what `convert_hf_to_gguf.py` wrote for every shape, for tests to compare with;
`python -m tests.convert.official [SHAPE...]` regenerates it. Quantized data is not recorded: the
search for the best scales may round differently on another processor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from localmtp.bench.lab.convert import reference
from localmtp.bench.lab.convert.gguf_contents import digest, metadata
from localmtp.bench.lab.convert.qwen_checkpoints import QWEN_SHAPES, VISION_SHAPES, write_qwen
from tests.convert.checkpoints import SHAPES, write_checkpoint
from tests.convert.towers import TOWERS, write_multimodal

RECORDED = Path(__file__).with_name("official.json")

HEAD_FLAGS: dict[str, tuple[str, ...]] = {"": (), "-mtp": ("--mtp",), "-no-mtp": ("--no-mtp",)}
"""Suffix of a recorded result of Qwen 3.5 → options of the converter."""

needs_llama_cpp = pytest.mark.skipif(
    not reference.available(),
    reason=f"needs llama.cpp's own tools ({', '.join(reference.VARIABLES)})",
)


def recorded() -> dict[str, dict[str, Any]]:
    """Shape → metadata of the BF16 file, and digests of the tensors in each output type."""
    found: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())
    return found


def _record(only: Sequence[str]) -> None:
    results: dict[str, Any] = recorded() if only else {}
    with TemporaryDirectory() as folder:
        for name, checkpoint, flags in _cases(Path(folder), only):
            results[name] = _result(checkpoint, *flags)
    RECORDED.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _cases(folder: Path, only: Sequence[str]) -> Iterator[tuple[str, Path, Sequence[str]]]:
    """Yield name, checkpoint and options of the converter for every result."""
    for shape in SHAPES:
        if not only or shape in only:
            yield shape, write_checkpoint(folder / reference.folder_name(shape), shape), ()
    for shape in TOWERS:
        if not only or shape in only:
            directory = folder / "towers" / reference.folder_name(shape)
            yield f"{shape}-mmproj", write_multimodal(directory, shape), ["--mmproj"]
    for shape in QWEN_SHAPES:
        if only and shape not in only:
            continue
        checkpoint = write_qwen(folder / reference.folder_name(shape), shape)
        for name, flags in HEAD_FLAGS.items():
            yield f"{shape}{name}", checkpoint, flags
        if shape in VISION_SHAPES:
            yield f"{shape}-mmproj", checkpoint, ["--mmproj"]


def _result(checkpoint: Path, *flags: str) -> dict[str, Any]:
    digests = {}
    for output_type in reference.OUTPUT_TYPES:
        path = checkpoint.with_name(f"{checkpoint.name}-{output_type}.gguf")
        reference.convert(checkpoint, output_type, path, *flags)
        digests[output_type] = digest(path)
    return {"digests": digests, "metadata": metadata(path)}


if __name__ == "__main__":
    _record(sys.argv[1:])
