"""llama.cpp's own two steps, for comparison: convert_hf_to_gguf.py, then llama-quantize.

They need a built source tree of llama.cpp and a Python with torch and transformers:

    LOCALMTP_LLAMA_CPP=DIR LOCALMTP_LLAMA_CPP_BIN=DIR LOCALMTP_REFERENCE_PYTHON=PATH pytest

What the converter made of every shape is kept in official.json, so that each run compares with it;
`python -m tests.convert.official` makes that file anew. Quantized bytes are not kept: the search
for the best scales may round differently on another processor.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.convert.checkpoints import SHAPES, write_checkpoint
from tests.convert.gguf_files import digest, metadata
from tests.convert.towers import TOWERS, write_multimodal

GOLDEN = Path(__file__).with_name("official.json")
OUTPUT_TYPES = ("F32", "F16", "BF16")

_VARIABLES = ("LOCALMTP_LLAMA_CPP", "LOCALMTP_LLAMA_CPP_BIN", "LOCALMTP_REFERENCE_PYTHON")

needs_llama_cpp = pytest.mark.skipif(
    not all(name in os.environ for name in _VARIABLES),
    reason=f"llama.cpp's own tools are not given ({', '.join(_VARIABLES)})",
)


def tool(name: str) -> Path:
    """One of llama.cpp's programs."""
    return Path(os.environ["LOCALMTP_LLAMA_CPP_BIN"], name)


def convert(checkpoint: Path, output_type: str, path: Path, *flags: str) -> None:
    """`convert_hf_to_gguf.py`."""
    command = [*convert_command(checkpoint, output_type, path), *flags]
    subprocess.run(command, check=True, capture_output=True)


def convert_command(checkpoint: Path, output_type: str, path: Path) -> list[str]:
    """How it is called."""
    source, _, python = (os.environ[name] for name in _VARIABLES)
    script = str(Path(source, "convert_hf_to_gguf.py"))
    options = "--outtype", output_type.lower(), "--outfile", str(path)
    return [python, script, str(checkpoint), *options]


def quantize(source: Path, quant: str, path: Path, *options: str | Path) -> None:
    """`llama-quantize`."""
    subprocess.run(
        [tool("llama-quantize"), *options, source, path, quant], check=True, capture_output=True
    )


def folder_name(shape: str) -> str:
    """What the checkpoint's directory was called, which becomes the model's name."""
    return f"gemma-4-{shape}" if shape.endswith("-assistant") else f"gemma-4-{shape}-it"


def golden() -> dict[str, dict[str, Any]]:
    """Shape → metadata of the BF16 file, and digests of the tensors in each output type."""
    found: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text())
    return found


def _make() -> None:
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for shape in SHAPES:
            checkpoint = write_checkpoint(Path(folder, folder_name(shape)), shape)
            results[shape] = _result(checkpoint)
        for shape in TOWERS:
            checkpoint = write_multimodal(Path(folder, "towers", folder_name(shape)), shape)
            results[f"{shape}-mmproj"] = _result(checkpoint, "--mmproj")
    GOLDEN.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _result(checkpoint: Path, *flags: str) -> dict[str, Any]:
    digests = {}
    for output_type in OUTPUT_TYPES:
        path = checkpoint.with_name(f"{checkpoint.name}-{output_type}.gguf")
        convert(checkpoint, output_type, path, *flags)
        digests[output_type] = digest(path)
    return {"digests": digests, "metadata": metadata(path)}


if __name__ == "__main__":
    _make()
