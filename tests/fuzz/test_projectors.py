"""Mutated projectors through pairing, the trial and one image, as `localmtp run` does it.

A file is refused with a `LocalmtpError` of one line, or encodes. libmtmd aborts on many of them in
the trial process; an abort of this process ends the test run.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import localmtp
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import read_header
from tests.fuzz.budget import examples, one_input, peak_memory, seeds
from tests.fuzz.gguf_mutator import mutated, plausible, read
from tests.media import samples
from tests.towers import write_towers

_PEAK_MEGABYTES = 1024
_ALIGNMENT = 32


@pytest.mark.parametrize("kind", ["e2b", "12b"])
def test_mutated_projectors(tmp_path: Path, kind: str) -> None:
    original = write_towers(tmp_path / "original.gguf", kind)
    weights = original.read_bytes()[read_header(original).data_offset :]
    path, counts = tmp_path / "mmproj.gguf", Counter[str]()
    base = read(original, longest_array=1 << 20)
    with peak_memory(_PEAK_MEGABYTES):
        for seed in seeds(examples(4)):
            with one_input(seed) as rng:
                header = rng.choice((plausible, plausible, plausible, mutated))(base, rng)
                padding = bytes(-len(header) % _ALIGNMENT)
                path.write_bytes(header + padding + weights)
                counts[_encode(path)] += 1
    print(dict(counts))
    assert counts["refused"] + counts["ended the trial process"]


def _encode(path: Path) -> str:
    media = [samples.png(), samples.sound(samples.tone(0.2))]
    try:
        with localmtp.load("nano", mmproj=path, ctx=512, threads=1) as model:
            model.chat("What is it?", media=media, max_tokens=2).text()
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        return "ended the trial process" if "libllama" in error.message else "refused"
    return "encoded"
