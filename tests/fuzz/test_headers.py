"""Mutated GGUF headers through everything that reads them before libllama does.

An input is refused with a `LocalmtpError` of one line, or accepted; nothing else is raised, and
memory stays within a bound.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from localmtp.convert.output.imatrix import read_imatrix
from localmtp.convert.output.merge import merge
from localmtp.engine.load_options import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.models.details import model_details
from localmtp.models.embedded import embedded_files
from localmtp.models.gguf_header import read_header
from localmtp.models.load_check import LoadCheck
from localmtp.models.memory.available import choose_placement
from localmtp.models.vocabulary import repeated_tokens
from localmtp.share.card import model_card
from localmtp.share.contents import read_contents
from tests.fuzz.budget import examples, one_input, peak_memory, seeds
from tests.fuzz.gguf_mutator import GgufHeader, mutated, read

_LARGE = 300 << 20
"""Size of tensor data, a hole, at which memory is checked before loading."""
_SMALL = 8 << 20
"""Size of tensor data, a hole, that the embedded target's tensors fit in."""
_PEAK_LARGE, _PEAK_SMALL = 384, 64
"""Bounds of memory in MiB. Pages of the mapped file count, so it is the file and 84, or 56, MiB."""
_SLOW_EVERY = 10
"""Checks that read a megabyte, or look at the machine, run on one input of ten."""


@pytest.fixture(scope="module")
def target() -> GgufHeader:
    return read(embedded_files().target)


@pytest.fixture(scope="module")
def drafter() -> GgufHeader:
    path = embedded_files().drafter
    assert path is not None
    return read(path, longest_array=1 << 20)  # pairs have vocabularies of one size


def write(path: Path, header: bytes, data: int = _LARGE) -> Path:
    """Write a file whose tensor data is a hole."""
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + data)
    return path


def outcome(error: LocalmtpError) -> str:
    """Check that an error is one line, and return its kind."""
    assert error.message and "\n" not in error.message and len(error.message) < 4000
    return "refused"


def test_headers_of_targets(tmp_path: Path, target: GgufHeader) -> None:
    path, counts = tmp_path / "target.gguf", Counter[str]()
    with peak_memory(_PEAK_LARGE):
        for seed in seeds(examples(300, factor=40)):
            with one_input(seed) as rng:
                counts[_load_target(write(path, mutated(target, rng)), seed)] += 1
    print(dict(counts))
    assert counts["refused"]


def _load_target(path: Path, seed: int) -> str:
    try:
        read_header(path)
        files = resolve(str(path))
        choose_placement(files, LoadOptions())
        if seed % _SLOW_EVERY == 0:
            LoadCheck(files)
            repeated_tokens(path, read_header(path))
            model_details(str(path), offline=True).as_dict()
    except LocalmtpError as error:
        return outcome(error)
    return "accepted"


def test_headers_of_drafters(tmp_path: Path, drafter: GgufHeader) -> None:
    path, counts = tmp_path / "mtp-drafter.gguf", Counter[str]()
    pair = embedded_files()
    with peak_memory(_PEAK_LARGE):
        for seed in seeds(examples(100, factor=10)):
            with one_input(seed) as rng:
                write(path, mutated(drafter, rng))
                try:
                    files = resolve(str(pair.target), drafter=str(path))
                    choose_placement(replace(files, drafter=path), LoadOptions())
                    counts["accepted"] += 1
                except LocalmtpError as error:
                    counts[outcome(error)] += 1
    print(dict(counts))
    assert counts["refused"]


def test_parts_of_split_models(tmp_path: Path, target: GgufHeader) -> None:
    """`convert --merge` up to the point where it writes."""
    first, second = (tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    out, counts = tmp_path / "out", Counter[str]()
    write(second, target.serialized(), _SMALL)
    with peak_memory(_PEAK_SMALL):
        for seed in seeds(examples(100, factor=10)):
            with one_input(seed) as rng:
                write(first, mutated(target, rng), _SMALL)
                try:
                    merge(first, out)
                except LocalmtpError as error:
                    outcome(error)
                    parsed = "does not belong to the other parts" in error.message
                    counts["parsed" if parsed else "refused"] += 1
    print(dict(counts))
    assert counts["refused"] and counts["parsed"] and not out.exists()


def test_shared_models(tmp_path: Path, target: GgufHeader) -> None:
    """`share --dry-run`: what a model card says of the files in a directory."""
    path, counts = tmp_path / "model-Q8_0.gguf", Counter[str]()
    with peak_memory(_PEAK_SMALL):
        for seed in seeds(examples(100, factor=5)):
            with one_input(seed) as rng:
                write(path, mutated(target, rng), _SMALL)
                try:
                    card = model_card(read_contents(tmp_path), "user/model")
                    assert card.encode().startswith(b"---\n")
                    counts["accepted"] += 1
                except LocalmtpError as error:
                    counts[outcome(error)] += 1
    print(dict(counts))
    assert counts["refused"] and counts["accepted"]


def test_importance_matrices(tmp_path: Path) -> None:
    path, counts = tmp_path / "imatrix.gguf", Counter[str]()
    header = _imatrix()
    with peak_memory(_PEAK_SMALL):
        for seed in seeds(examples(100)):
            with one_input(seed) as rng:
                write(path, mutated(header, rng), 4096)
                try:
                    read_imatrix(path)
                    counts["accepted"] += 1
                except LocalmtpError as error:
                    counts[outcome(error)] += 1
    print(dict(counts))
    assert counts["refused"]


def _imatrix() -> GgufHeader:
    from struct import pack

    from tests.fuzz.gguf_mutator import ARRAY, STRING, UINT32, text

    return GgufHeader(
        [
            (b"general.type", pack("<I", STRING) + text(b"imatrix")),
            (b"imatrix.datasets", pack("<IIQ", ARRAY, STRING, 1) + text(b"drawn")),
            (b"imatrix.chunk_count", pack("<II", UINT32, 2)),
        ],
        [
            (b"blk.0.ffn_down.weight.in_sum2", [64, 2], 0, 0),
            (b"blk.0.ffn_down.weight.counts", [1, 2], 0, 512),
        ],
    )


def test_the_generator_is_deterministic(target: GgufHeader) -> None:
    assert mutated(target, Random(7)) == mutated(target, Random(7))
