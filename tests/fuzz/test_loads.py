"""Mutated GGUF files through loading and one short answer, as `localmtp run` does it.

A file is refused with a `LocalmtpError` of one line, or answers. libllama aborts on many of them in
the trial process; an abort of this process ends the test run.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import localmtp
from localmtp.errors import LocalmtpError
from localmtp.models.embedded import embedded_files
from localmtp.models.gguf_header import read_header
from tests.fuzz.budget import examples, one_input, peak_memory, seeds
from tests.fuzz.gguf_mutator import mutated, plausible, read

_PEAK_MEGABYTES = 1024
_ALIGNMENT = 32


@pytest.fixture(scope="module")
def weights() -> bytes:
    """Tensor data of the embedded target."""
    target = embedded_files().target
    return target.read_bytes()[read_header(target).data_offset :]


def test_whole_loads(tmp_path: Path, weights: bytes) -> None:
    path, counts = tmp_path / "target.gguf", Counter[str]()
    base = read(embedded_files().target, longest_array=1 << 20)
    with peak_memory(_PEAK_MEGABYTES):
        for seed in seeds(examples(6)):
            with one_input(seed) as rng:
                header = rng.choice((plausible, plausible, plausible, mutated))(base, rng)
                padding = bytes(-len(header) % _ALIGNMENT)
                path.write_bytes(header + padding + weights)
                counts[_load(path)] += 1
    print(dict(counts))
    assert counts["refused"]


def _load(path: Path) -> str:
    try:
        with localmtp.load(path, drafter="none", ctx=128, threads=1) as model:
            model.complete("The sun", max_tokens=3).text()
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        return "ended the trial process" if "libllama" in error.message else "refused"
    return "answered"
