"""States of heads, recurrent layers and draft models: saved to a file, restored in another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.events import Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.recurrent import RollbackError
from localmtp.engine.sampling.params import SamplingParams
from localmtp.models import resolve
from localmtp.session.cache_file import read_state, write_state
from tests.draft_models import noisy
from tests.engine.test_heads import GREEDY, SEEDED, answer, clear
from tests.head_architectures import ARCHITECTURES, WITHOUT_GRAPH, write_model
from tests.heads import write_qwen35
from tests.pairs import TINY, write_pair

TURN = 2  # <|im_start|>
PROMPT = [TURN, *range(40, 60), *range(30, 44), TURN, *range(90, 110)]
NEXT = [TURN, *range(120, 140)]
EDITED = [*PROMPT[:36], *range(70, 85)]
KINDS = [
    "qwen35",
    "head apart",
    "no head",
    "draft model",
    "glm4moe",
    "qwen3next",
    "nemotron_h_moe",
    "mimo2",
    "deepseek4",
    "glm5-next",
]
"""Each has other memory: KV cache, recurrent states with and without snapshots, sliding windows."""


@pytest.fixture(params=KINDS)
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Pair]:
    """Loads a pair, again and again."""
    kind, path = request.param, tmp_path / "model.gguf"
    target, drafter = path, path
    if kind == "draft model":
        target, drafter = resolve("nano").target, noisy(path)
    elif kind == "head apart":
        drafter = tmp_path / "mtp-head.gguf"
        write_qwen35(target, head=False)
        write_qwen35(drafter, trunk=False)
    elif kind in (*ARCHITECTURES, *WITHOUT_GRAPH):
        write_model(path, kind)
    else:
        write_qwen35(path)
    options = LoadOptions(threads=1, context=256, parallel=2)
    without = kind == "no head" or kind in WITHOUT_GRAPH
    return lambda: Pair.load(target, None if without else drafter, options)


def saved(pair: Pair, loop: DecodeLoop, path: Path) -> None:
    holder = max(pair.sequences, key=lambda one: len(one.tokens))
    state = loop.state(holder)
    assert state is not None
    write_state(path, "key", state)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_a_restored_conversation_continues_as_if_it_had_stayed(
    load: Callable[[], Pair], tmp_path: Path, sampling: SamplingParams
) -> None:
    path = tmp_path / "state"
    with load() as pair:
        loop = pair.decode_loop()
        said, _ = answer(pair, PROMPT, 3, sampling, loop=loop, tokens=30)
        saved(pair, loop, path)
        longer = [*PROMPT, *said, *NEXT]
        expected, stayed = answer(pair, longer, 3, sampling, loop=loop, tokens=30)
    with load() as pair:
        for n_draft in (3, 0, None):
            loop = pair.decode_loop()
            assert loop.load(read_state(path, "key"))
            found, stats = answer(pair, longer, n_draft, sampling, loop=loop, tokens=30)
            assert found == expected
            assert stats.reused_tokens == stayed.reused_tokens > len(PROMPT)
            if n_draft == 3:
                assert (stats.drafted, stats.accepted) == (stayed.drafted, stayed.accepted)


def test_a_restored_conversation_goes_back_by_its_checkpoints(
    load: Callable[[], Pair], tmp_path: Path
) -> None:
    path = tmp_path / "state"
    with load() as pair:
        loop = pair.decode_loop()
        said, _ = answer(pair, PROMPT, 3, loop=loop, tokens=30)
        saved(pair, loop, path)
        prompts = (EDITED, PROMPT, [*PROMPT, *said[:10], *NEXT])
        expected = []
        for prompt in prompts:
            clear(pair)
            expected.append(answer(pair, prompt, 0, loop=loop, tokens=20)[0])
    with load() as pair:
        loop = pair.decode_loop()
        for prompt, text in zip(prompts, expected, strict=True):
            clear(pair)
            assert loop.load(read_state(path, "key"))
            found, stats = answer(pair, prompt, 3, loop=loop, tokens=20)
            assert found == text
            assert stats.reused_tokens >= 30


def test_a_conversation_is_restored_while_another_answer_is_decoded(
    load: Callable[[], Pair], tmp_path: Path
) -> None:
    path, other = tmp_path / "state", [TURN, *range(150, 190)]
    with load() as pair:
        loop = pair.decode_loop()
        said, _ = answer(pair, PROMPT, 3, loop=loop, tokens=30)
        saved(pair, loop, path)
        longer = [*PROMPT, *said, *NEXT]
        expected = [answer(pair, longer, 0, loop=loop, tokens=30)[0]]
        clear(pair)
        expected.insert(0, answer(pair, other, 0, loop=loop, tokens=50)[0])
    with load() as pair:
        loop = pair.decode_loop()
        first = loop.start(GenerationRequest(other, GREEDY, n_draft=3, max_tokens=50))
        found: dict[Generation, list[int]] = {first: []}
        for _ in range(4):
            take(loop, found)
        assert loop.load(read_state(path, "key"))
        found[loop.start(GenerationRequest(longer, GREEDY, n_draft=3, max_tokens=30))] = []
        while loop.active:
            take(loop, found)
        assert list(found.values()) == expected


def take(loop: DecodeLoop, found: dict[Generation, list[int]]) -> None:
    for one, event in loop.step():
        if isinstance(event, Generated):
            found[one] += [piece.token_id for piece in event.pieces]


def test_full_windows_are_not_cut_where_the_saved_state_had_no_cells(tmp_path: Path) -> None:
    """libllama saves the window of each layer, even where it holds all positions."""
    target, drafter = tmp_path / "target.gguf", tmp_path / "drafter.gguf"
    write_pair(TINY["dense"], target, drafter)
    options = LoadOptions(threads=1, context=256, parallel=2, full_window=True)
    text = [(7 * i) % 200 + 300 for i in range(100)]
    with Pair.load(target, drafter, options) as pair:
        first, second = pair.sequences
        prefill(first, text)
        state = first.state()
        assert state
        for back in (0, 1, 40):
            assert second.load(state)
            edited = [*text[: 100 - back], 310, 311]
            restored = prefill(second, edited)[0].copy()
            first.clear()
            np.testing.assert_allclose(restored, prefill(first, edited)[0], atol=0.05)


def test_a_restored_state_is_never_rolled_back(tmp_path: Path) -> None:
    """libllama would take a state of another text, without an error."""
    path = tmp_path / "model.gguf"
    write_qwen35(path)
    with Pair.load(path, path, LoadOptions(threads=1, context=256)) as pair:
        loop, sequence = pair.decode_loop(), pair.sequences[0]
        answer(pair, PROMPT, 3, loop=loop, tokens=20)
        state = loop.state(sequence)
        assert state is not None
        sequence.verify(30, [31, 32, 33])
        assert loop.load(state)
        with pytest.raises(RollbackError):
            pair.target.cache.remove_from(len(state.tokens) - 1)
