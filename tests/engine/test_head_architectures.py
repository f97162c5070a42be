"""Every architecture whose MTP head libllama runs: loads, drafts, goes back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.prefill import Prefill, prefill
from localmtp.engine.pair import LoadOptions, Pair
from tests.engine.test_heads import answer, clear, fresh
from tests.head_architectures import ARCHITECTURES, write_model

TURN = 2  # <|im_start|>
PROMPT = [TURN, *range(40, 60), *range(30, 44), TURN, *range(90, 110)]
EDITED = [*PROMPT[:36], *range(70, 85)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_drafts_and_goes_back(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "model.gguf"
    write_model(path, architecture)
    options = LoadOptions(threads=1, context=256, parallel=2)
    with Pair.load(path, path, options) as pair:
        plain, _ = answer(pair, PROMPT, 0, tokens=40)
        clear(pair)
        drafted, stats = answer(pair, PROMPT, 3, tokens=40)
        assert drafted == plain
        assert stats.accepted > 5
        edited, stats = answer(pair, EDITED, 3, tokens=20)
        assert stats.reused_tokens >= 30
        clear(pair)
        assert edited == answer(pair, EDITED, 0, tokens=20)[0]
        clear(pair)
        answer(pair, PROMPT, 3, tokens=40)
        _goes_back(pair, PROMPT, drafted)


def _goes_back(pair: Pair, prompt: Sequence[int], said: Sequence[int]) -> None:
    sequence = pair.sequences[0]
    for other in ([*prompt, *said, *range(50, 60)], EDITED, prompt):
        assert Prefill(sequence, other).reused >= 30
        logits = prefill(sequence, other)[0]
        np.testing.assert_allclose(logits, fresh(pair, other), atol=0.02)
        assert int(logits.argmax()) == int(fresh(pair, other).argmax())


@pytest.mark.parametrize("architecture", ["glm4moe", "nemotron_h_moe", "qwen3next"])
def test_a_head_in_a_file_of_its_own(tmp_path: Path, architecture: str) -> None:
    target, head = tmp_path / "target.gguf", tmp_path / "head.gguf"
    write_model(target, architecture, head=False)
    write_model(head, architecture, trunk=False)
    with Pair.load(target, head, LoadOptions(threads=1, context=256)) as pair:
        plain, _ = answer(pair, PROMPT, 0, tokens=30)
        clear(pair)
        drafted, stats = answer(pair, PROMPT, 3, tokens=30)
        assert drafted == plain
        assert stats.accepted > 5


def test_an_architecture_whose_head_has_no_graph_copies_drafts_and_goes_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.gguf"
    write_model(path, "glm5-next")
    options = LoadOptions(threads=1, context=256, parallel=2)
    with Pair.load(path, None, options, lookup=True) as pair:
        said, _ = answer(pair, PROMPT, 0, tokens=40)
        misquoted = [token + (i % 7 == 6) for i, token in enumerate(said)]
        prompt = [*PROMPT, *misquoted, TURN, *PROMPT[-4:], *said[:4]]
        clear(pair)
        plain, _ = answer(pair, prompt, 0, tokens=40)
        clear(pair)
        drafted, stats = answer(pair, prompt, 3, tokens=40)
        assert drafted == plain
        assert stats.drafted > stats.accepted > 0
        _goes_back(pair, prompt, drafted)
