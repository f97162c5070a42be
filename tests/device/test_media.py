"""Images on a device: encoded there, and read by the target there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.llama import Floats
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.media import Media
from localmtp.models import resolve
from tests.device.test_answers import ROUNDING
from tests.media import samples
from tests.towers import KINDS, write_towers

pytestmark = pytest.mark.device


@pytest.mark.parametrize("kind", [kind for kind, (sees, _) in KINDS.items() if sees])
def test_logits_after_an_image_are_those_of_the_processor(tmp_path: Path, kind: str) -> None:
    projector = write_towers(tmp_path / "mmproj.gguf", kind)
    processor, device = (_after_image(projector, layers) for layers in (0, None))
    assert np.abs(processor - device).max() < ROUNDING


def _after_image(projector: Path, gpu_layers: int | None) -> Floats:
    files = resolve("nano")
    options = LoadOptions(context=1024, threads=1, gpu_layers=gpu_layers)
    with Pair.load(files.target, files.drafter, options) as pair:
        pair.use_projector(projector, use_gpu=gpu_layers is None)
        assert pair.media
        vocab = pair.target.vocab
        image = pair.media.place(Media("image", samples.png(200, 150), "gradient.png"))
        before = [vocab.bos, *vocab.tokenize("<|turn>user\n", special=True)]
        after = vocab.tokenize("Count from 1 to 9.<turn|>\n<|turn>model\n", special=True)
        logits = prefill(pair.sequences[0], [*before, *image.tokens, *after], [image])[0]
        finite: Floats = logits[np.isfinite(logits)].copy()
        return finite
