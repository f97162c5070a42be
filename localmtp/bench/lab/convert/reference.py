"""llama.cpp's own two steps: `convert_hf_to_gguf.py`, then `llama-quantize`.

They need a built source tree of llama.cpp and a Python with torch and transformers, named by three
environment variables: LOCALMTP_LLAMA_CPP (source tree), LOCALMTP_LLAMA_CPP_BIN (directory of the
programs) and LOCALMTP_REFERENCE_PYTHON.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from localmtp.bench.lab.convert.qwen_checkpoints import QWEN_SHAPES

VARIABLES = ("LOCALMTP_LLAMA_CPP", "LOCALMTP_LLAMA_CPP_BIN", "LOCALMTP_REFERENCE_PYTHON")

_AS_QWEN = """
import runpy, sys
from pathlib import Path
sys.argv.pop(0)
folder = Path(sys.argv[0]).parent
sys.path[:0] = [str(folder), str(folder / "gguf-py")]
from conversion import base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen35"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The converter knows pre-tokenizers by a hash of tokenized text, so not that of a tiny tokenizer.
Arguments: the script and its own."""

OUTPUT_TYPES = ("F32", "F16", "BF16")
"""Types that `convert_hf_to_gguf.py` writes itself; all others come from `llama-quantize`."""


def available() -> bool:
    """Whether all three environment variables are set."""
    return all(name in os.environ for name in VARIABLES)


def tool(name: str) -> Path:
    """Path of one of llama.cpp's programs."""
    return Path(_variable("LOCALMTP_LLAMA_CPP_BIN"), name)


def convert(checkpoint: Path, output_type: str, path: Path, *flags: str) -> None:
    """Run `convert_hf_to_gguf.py`.

    Raises:
        CalledProcessError: it failed; `stderr` is captured.
    """
    command = [*convert_command(checkpoint, output_type, path), *flags]
    subprocess.run(command, check=True, capture_output=True)


def convert_command(checkpoint: Path, output_type: str, path: Path) -> list[str]:
    """Command line of `convert_hf_to_gguf.py`."""
    source, _, python = (_variable(name) for name in VARIABLES)
    script = [str(Path(source, "convert_hf_to_gguf.py"))]
    if _is_qwen(checkpoint):
        script = ["-c", _AS_QWEN, *script]
    options = "--outtype", output_type.lower(), "--outfile", str(path)
    return [python, *script, str(checkpoint), *options]


def quantize(source: Path, quant: str, path: Path, *options: str | Path) -> None:
    """Run `llama-quantize`.

    Raises:
        CalledProcessError: it failed; `stderr` is captured.
    """
    subprocess.run(
        [tool("llama-quantize"), *options, source, path, quant], check=True, capture_output=True
    )


def folder_name(shape: str) -> str:
    """Name for a tiny checkpoint's directory; the converter derives the model's name from it."""
    if shape in QWEN_SHAPES:
        return f"Qwen3.5-{shape}"
    return f"gemma-4-{shape}" if shape.endswith("-assistant") else f"gemma-4-{shape}-it"


def _is_qwen(checkpoint: Path) -> bool:
    return "Qwen3_5" in (checkpoint / "config.json").read_text("utf-8")


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SystemExit(f"error: {name} is not set\nhint: set {', '.join(VARIABLES)}")
    return value
