"""Qwen 3.5's converted vision encoder against transformers: rows of images, and logits after them.

`qwen_images_torch.npz` was written by `qwen_images_torch.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from localmtp.bench.lab.convert.qwen_checkpoints import VISION_SHAPES
from localmtp.convert import Options, convert
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.media import Media
from tests.convert.qwen_images_torch import (
    EVERY,
    LAST,
    RECORDED,
    SIZES,
    picture,
    prompt,
    write_checkpoint,
)
from tests.media import samples

IMAGE_ROUNDING, ROUNDING = 0.002, 0.005
"""Largest differences by rounding, relative to the largest number: GELU is read from a table of 16
bits, and the KV cache has 16 bits. Height and width exchanged change logits of the dense shape by
0.011 to 0.028, positions counted by rows by 0.23 to 0.44."""


@pytest.mark.parametrize("shape", VISION_SHAPES)
def test_rows_and_logits_equal_those_of_transformers(tmp_path: Path, shape: str) -> None:
    source = write_checkpoint(tmp_path / shape, shape)
    options = Options(quants=["F32"], mmproj=["F32"], threads=1)
    files = {f.projector: f.path for f in convert(source, tmp_path / "out", options=options)}
    pictures = [Image.fromarray(picture(i)) for i in range(len(SIZES))]
    recorded = np.load(RECORDED)
    with Pair.load(files[False], None, LoadOptions(context=1024, threads=1)) as pair:
        pair.use_projector(files[True])
        assert pair.media
        placed = [pair.media.place(Media("image", samples.encoded(p, "PNG"))) for p in pictures]
        rows = np.concatenate([each.piece(0).rows for each in placed])[::EVERY]
        expected = recorded[f"{shape} image"]
        assert np.abs(rows - expected).max() < IMAGE_ROUNDING * np.abs(expected).max()
        vision = placed[0].tokens[0], placed[0].tokens[-1]
        ids = prompt(vision, [each.tokens[1:-1] for each in placed])
        sequence, expected = pair.sequences[0], recorded[f"{shape} logits"]
        found = [prefill(sequence, ids[: 1 - LAST], placed)[0].copy()]
        for token in ids[1 - LAST :]:
            found.append(sequence.verify(token)[0].copy())
            sequence.commit(token, (), 0)
        logits = np.array(found)
        errors = np.abs(logits - expected)[:, np.isfinite(logits[0])].max(axis=1)
        assert errors.max() < ROUNDING * np.abs(expected).max()
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()
