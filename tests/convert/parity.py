"""Every shape in every type, held against llama.cpp's own two steps.

    python -m tests.convert.parity FOLDER [SHAPE...]

prints a table of shapes and types. Ours is made of the sharded checkpoint with the newer
configuration, theirs of the single file with the older one. With an importance matrix means one
that llama-imatrix measured on the target; it cannot run drafters, for which one is drawn at random.
Needs what `tests.convert.official` needs, and llama-imatrix. FOLDER takes the files, which stay.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from localmtp.convert import FILE_TYPES, Options, convert
from localmtp.errors import LocalmtpError
from tests.convert import official
from tests.convert.checkpoints import SHAPES, write_checkpoint
from tests.convert.gguf_files import metadata, tensors
from tests.convert.importance import draw, measure

_FOLDER_KEY = "quantize.imatrix.file"
"""Ours is without the folder, a difference that the documentation lists."""


def compare(shape: str, folder: Path) -> Iterator[tuple[str, str, str]]:
    """(type, without a matrix, with one): `same`, `refused` by both, or what differs."""
    name = official.folder_name(shape)
    theirs = write_checkpoint(folder / "old" / name, shape)
    ours = write_checkpoint(folder / "new" / name, shape, new_config=True, shards=3)
    full, matrix = folder / f"{shape}.gguf", folder / f"{shape}-imatrix.gguf"
    official.convert(theirs, "BF16", full)
    if shape.endswith("assistant"):
        draw(full, matrix)
    else:
        measure(full, matrix)
    for quant in FILE_TYPES:
        if quant in official.OUTPUT_TYPES:
            reference = folder / "reference.gguf"
            official.convert(theirs, quant, reference)
            [file] = convert(ours, folder / "out", options=Options([quant], force=True))
            yield quant, _difference(file.path, reference), ""
        else:
            plain, weighted = (_quantized(ours, full, quant, m, folder) for m in (None, matrix))
            yield quant, plain, weighted


def _quantized(ours: Path, full: Path, quant: str, matrix: Path | None, folder: Path) -> str:
    reference = folder / "reference.gguf"
    flags: Sequence[str | Path] = ["--imatrix", matrix] if matrix else []
    words = refusal = ""
    try:
        official.quantize(full, quant, reference, *flags)
    except subprocess.CalledProcessError as error:
        refusal = error.stderr.decode(errors="replace").strip().splitlines()[-1]
    try:
        options = Options([quant], force=True, imatrix=matrix)
        [file] = convert(ours, folder / "out", options=options)
    except LocalmtpError as error:
        words = error.message
    if refusal or words:
        return "refused" if refusal and words else f"ours: {words or '-'}; theirs: {refusal or '-'}"
    return _difference(file.path, reference)


def _difference(ours: Path, theirs: Path) -> str:
    found, expected = tensors(ours), tensors(theirs)
    other = [name for name in found | expected if found.get(name) != expected.get(name)]
    values, wanted = metadata(ours), metadata(theirs)
    keys = {key for key in values | wanted if values.get(key) != wanted.get(key)}
    return ", ".join([*other, *sorted(keys - {_FOLDER_KEY})]) or "same"


def main(folder: Path, shapes: Sequence[str]) -> None:
    """Print the table, one shape after the other."""
    print("| shape | type | without a matrix | with one |\n| --- | --- | --- | --- |")
    for shape in shapes:
        for quant, plain, weighted in compare(shape, folder / shape):
            print(f"| {shape} | {quant} | {plain} | {weighted} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(SHAPES))
