"""Converted encoders beside transformers: rows of image and sound, and logits after them.

`media_reference.npz` was written by `media_reference.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from localmtp.convert import Options, convert
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.media import Media
from tests.convert import runnable
from tests.convert.towers import TOWERS
from tests.media import samples

RECORDED = np.load(Path(__file__).with_name("media_reference.npz"))
EVERY, LAST = 8, 8

ROUNDING = 0.01
"""Largest difference by rounding, relative to the largest number: GELU is read from a table of 16
bits, and the KV cache has 16 bits."""


def distances(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest difference of each row, relative to the largest number."""
    assert ours.shape == theirs.shape
    difference: NDArray[np.float32] = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max()
    return difference


@pytest.mark.parametrize("shape", TOWERS)
def test_rows_and_logits_equal_those_of_transformers(tmp_path: Path, shape: str) -> None:
    source = runnable.write_runnable(tmp_path / shape, shape)
    options = Options(quants=["F32"], mmproj=["F32"], threads=1)
    files = {f.projector: f.path for f in convert(source, tmp_path / "out", options=options)}
    picture = Media("image", samples.encoded(Image.fromarray(runnable.pixels()), "PNG"))
    noise = Media("audio", samples.sound(runnable.sound()))
    media = [picture] if shape == "26B-A4B" else [picture, noise]
    with Pair.load(files[False], None, LoadOptions(context=1024, threads=1)) as pair:
        pair.use_projector(files[True])
        assert pair.media
        placed = [pair.media.place(each) for each in media]
        for each in placed:
            rows = each.piece(0).rows[::EVERY]
            assert distances(rows, RECORDED[f"{shape} {each.media.kind}"]).max() < ROUNDING / 5
        ids = [[i for i in each.tokens if i < 0] for each in placed]
        prompt = runnable.prompt(ids[0], ids[1] if len(ids) > 1 else [])
        sequence, expected = pair.sequences[0], RECORDED[f"{shape} logits"]
        found = [prefill(sequence, prompt[: 1 - LAST], placed)[0].copy()]
        for token in prompt[1 - LAST :]:
            found.append(sequence.verify(token)[0].copy())
            sequence.commit(token, (), 0)
        generated = np.isfinite(found[0])
        errors = distances(np.array(found)[:, generated], expected[:, generated])
        # Rounding may move a row of the mixture to other experts.
        assert (np.median(errors) if "A4B" in shape else errors.max()) < ROUNDING
