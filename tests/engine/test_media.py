"""Rows of images in the decode loop: beside other answers, and where encoding fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.events import Finished, Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.models.embedded import embedded_files
from tests.media import samples
from tests.towers import write_towers

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture
def projector(tmp_path: Path) -> Path:
    return write_towers(tmp_path / "mmproj.gguf", "26b-a4b")


@pytest.fixture
def pair(projector: Path) -> Iterator[Pair]:
    """Nano with two sequences and a projector."""
    files = embedded_files()
    options = LoadOptions(context=1024, threads=1, parallel=2)
    with Pair.load(files.target, files.drafter, options) as pair:
        pair.use_projector(projector)
        yield pair


def requests(pair: Pair, text: str = "Count from 1 to 9.") -> list[GenerationRequest]:
    """A prompt with an image in the middle, and one without."""
    vocab = pair.target.vocab
    assert pair.media
    image = pair.media.place(Media("image", samples.png(200, 150), "gradient.png"))
    tokens = vocab.tokenize(text, special=False)
    before = [vocab.bos, *vocab.tokenize("<|turn>user\n", special=True)]
    after = vocab.tokenize("<turn|>\n<|turn>model\n", special=True)
    prompts = [
        [*before, *tokens, *image.tokens, *tokens, *after],
        [*before, *tokens, *after],
    ]
    return [
        GenerationRequest(prompt, GREEDY, n_draft=3, max_tokens=20, media=media)
        for prompt, media in zip(prompts, ((image,), ()), strict=True)
    ]


def run(pair: Pair, given: list[GenerationRequest]) -> list[list[int] | LocalmtpError]:
    """Tokens of each answer, all decoded together, or the error that ended it."""
    loop = pair.decode_loop()
    generations = [loop.start(request) for request in given]
    found: dict[object, list[int] | LocalmtpError] = {each: [] for each in generations}
    while loop.active:
        for generation, output in loop.step():
            tokens = found[generation]
            if isinstance(output, LocalmtpError):
                found[generation] = output
            elif isinstance(output, Generated) and isinstance(tokens, list):
                tokens += [piece.token_id for piece in output.pieces]
            elif isinstance(output, Finished):
                assert tokens
    assert loop.free == len(pair.sequences)
    return [found[each] for each in generations]


def test_answers_with_and_without_an_image_share_passes(pair: Pair) -> None:
    together = run(pair, requests(pair))
    for sequence in pair.sequences:
        sequence.clear()
    assert together == [run(pair, [request])[0] for request in requests(pair)]


def test_an_image_that_cannot_be_encoded_ends_its_answer_alone(pair: Pair, projector: Path) -> None:
    given = requests(pair)
    alone = run(pair, given[1:])
    # Another number of threads loads the projector again.
    projector.unlink()
    pair.target.threads.set(2)
    failed, answered = run(pair, given)
    assert isinstance(failed, LocalmtpError)
    assert "cannot load the projector" in failed.message
    assert answered == alone[0]
