"""Compare every shape in every type with llama.cpp's own two steps.

    python -m localmtp.bench.lab.convert.parity FOLDER [SHAPE...]

Prints a table of shapes and types. localmtp converts a sharded checkpoint with the newer
configuration, llama.cpp the same weights in a single file with the older one. The importance
matrix is measured by llama-imatrix on a target and drawn at random for a drafter, which
llama-imatrix cannot run. Needs the programs named in `reference`, and llama-imatrix. Files stay
in FOLDER.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from localmtp.bench.lab.convert import reference
from localmtp.bench.lab.convert.checkpoints import SHAPES, write_checkpoint
from localmtp.bench.lab.convert.gguf_contents import metadata, tensors
from localmtp.bench.lab.convert.importance import draw, measure
from localmtp.bench.lab.convert.qwen_checkpoints import QWEN_SHAPES, write_qwen
from localmtp.convert import FILE_TYPES, Options, convert
from localmtp.errors import LocalmtpError

_FOLDER_KEY = "quantize.imatrix.file"
"""localmtp writes it without the folder, a documented difference."""


def compare(shape: str, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Convert one shape with both programs.

    Yields:
        Type, result without an importance matrix, result with one. A result is `same`, `refused`
        (by both), or a list of what differs.
    """
    name = reference.folder_name(shape)
    old, new = folder / "old" / name, folder / "new" / name
    if shape in QWEN_SHAPES:
        theirs, ours = write_qwen(old, shape), write_qwen(new, shape, shards=3)
    else:
        theirs = write_checkpoint(old, shape)
        ours = write_checkpoint(new, shape, new_config=True, shards=3)
    full, matrix = folder / f"{shape}.gguf", folder / f"{shape}-imatrix.gguf"
    reference.convert(theirs, "BF16", full)
    if shape.endswith("assistant"):
        draw(full, matrix)
    else:
        measure(full, matrix)
    for quant in FILE_TYPES:
        if quant in reference.OUTPUT_TYPES:
            expected = folder / "reference.gguf"
            reference.convert(theirs, quant, expected)
            [file] = convert(ours, folder / "out", options=Options([quant], force=True))
            yield quant, _difference(file.path, expected), ""
        else:
            plain, weighted = (_quantized(ours, full, quant, m, folder) for m in (None, matrix))
            yield quant, plain, weighted


def _quantized(ours: Path, full: Path, quant: str, matrix: Path | None, folder: Path) -> str:
    expected = folder / "reference.gguf"
    flags: Sequence[str | Path] = ["--imatrix", matrix] if matrix else []
    our_error = their_error = ""
    try:
        reference.quantize(full, quant, expected, *flags)
    except subprocess.CalledProcessError as error:
        their_error = error.stderr.decode(errors="replace").strip().splitlines()[-1]
    try:
        options = Options([quant], force=True, imatrix=matrix)
        [file] = convert(ours, folder / "out", options=options)
    except LocalmtpError as error:
        our_error = error.message
    if our_error and their_error:
        return "refused"
    if our_error or their_error:
        return f"localmtp: {our_error or '-'}; llama.cpp: {their_error or '-'}"
    return _difference(file.path, expected)


def _difference(ours: Path, theirs: Path) -> str:
    our_tensors, their_tensors = tensors(ours), tensors(theirs)
    our_values, their_values = metadata(ours), metadata(theirs)
    names = [
        name
        for name in our_tensors | their_tensors
        if our_tensors.get(name) != their_tensors.get(name)
    ]
    keys = {
        key for key in our_values | their_values if our_values.get(key) != their_values.get(key)
    }
    return ", ".join([*names, *sorted(keys - {_FOLDER_KEY})]) or "same"


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description="Compare localmtp convert with llama.cpp.")
    parser.add_argument("folder", type=Path, help="directory for all files")
    known = [*SHAPES, *QWEN_SHAPES]
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(known)} [all]")
    arguments = parser.parse_args()
    if unknown := [shape for shape in arguments.shapes if shape not in known]:
        parser.error(f"unknown shape {unknown[0]}")
    print("| shape | type | without a matrix | with one |\n| --- | --- | --- | --- |")
    for shape in arguments.shapes or known:
        for quant, plain, weighted in compare(shape, arguments.folder / shape):
            print(f"| {shape} | {quant} | {plain} | {weighted} |", flush=True)


if __name__ == "__main__":
    main()
