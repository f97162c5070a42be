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
from tests.heads import Qwen35, write_qwen35
from tests.media import samples
from tests.towers import write_towers

_PEAK_MEGABYTES = 1024
_ALIGNMENT = 32


@pytest.mark.parametrize("kind", ["e2b", "12b", "qwen"])
def test_mutated_projectors(tmp_path: Path, kind: str) -> None:
    target = "nano"
    if kind == "qwen":
        target = str(tmp_path / "target.gguf")
        write_qwen35(tmp_path / "target.gguf", Qwen35(n_embd=256), media=True)
    original = write_towers(tmp_path / "original.gguf", kind)
    weights = original.read_bytes()[read_header(original).data_offset :]
    media = [samples.png(), samples.sound(samples.tone(0.2))][: 1 if kind == "qwen" else 2]
    path, counts = tmp_path / "mmproj.gguf", Counter[str]()
    base = read(original, longest_array=1 << 20)
    with peak_memory(_PEAK_MEGABYTES):
        for seed in seeds(examples(4)):
            with one_input(seed) as rng:
                header = rng.choice((plausible, plausible, plausible, mutated))(base, rng)
                padding = bytes(-len(header) % _ALIGNMENT)
                path.write_bytes(header + padding + weights)
                counts[_encode(target, path, [*media])] += 1
    print(dict(counts))
    assert counts["refused"] + counts["ended the trial process"]


def _encode(target: str, path: Path, media: list[bytes | str | Path]) -> str:
    try:
        with localmtp.load(target, mmproj=path, ctx=512, threads=1) as model:
            model.chat("What is it?", media=media, max_tokens=2).text()
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        return "ended the trial process" if "libllama" in error.message else "refused"
    return "encoded"
