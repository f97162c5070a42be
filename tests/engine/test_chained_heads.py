"""Several MTP heads, one for each step of a draft: the text is that of decoding without drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from localmtp.engine.compatibility import CHAINED_HEADS
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.drafters.head import HeadDrafter
from localmtp.engine.pair import LoadOptions, Pair
from tests.engine.test_heads import (
    GREEDY,
    SEEDED,
    Oracle,
    answer,
    check_several_sequences,
    clear,
    drafts,
)
from tests.head_architectures import BLOCKS, write_model

TURN = 2  # <|im_start|>
PROMPT = [TURN, *range(40, 60), *range(30, 44), TURN, *range(90, 110)]


@pytest.fixture(scope="module", params=sorted(CHAINED_HEADS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chained") / "model.gguf"
    write_model(file, request.param, heads=3)
    return file


@pytest.fixture(scope="module")
def load(path: Path) -> Callable[[], Pair]:
    return lambda: Pair.load(path, path, LoadOptions(threads=1, context=256, parallel=3))


@pytest.fixture(scope="module")
def pair(load: Callable[[], Pair]) -> Iterator[Pair]:
    with load() as loaded:
        yield loaded


def test_drafting_does_not_change_the_text(pair: Pair) -> None:
    for sampling in (GREEDY, SEEDED):
        clear(pair)
        plain, _ = answer(pair, PROMPT, 0, sampling, tokens=40)
        for n_draft in (1, 2, 3, 8, None):
            clear(pair)
            drafted, stats = answer(pair, PROMPT, n_draft, sampling, tokens=40)
            assert drafted == plain
            if n_draft:
                assert stats.drafted >= stats.accepted > 3
                assert stats.tokens_per_pass <= 1 + min(n_draft, 3)


def test_every_partial_acceptance_leads_to_the_same_text(load: Callable[[], Pair]) -> None:
    with load() as pair:
        plain, _ = answer(pair, PROMPT, 0, tokens=100)
        oracle = Oracle(pair.target.model, pair, [*PROMPT, *plain, 0, 0, 0, 0])
        loop = DecodeLoop(pair.target, pair.sequences, oracle)
        for length in (1, 2, 3):
            clear(pair)
            assert answer(pair, PROMPT, length, loop=loop, tokens=90)[0] == plain[:90]
        assert set(oracle.right) == set(range(4))
        oracle.close()


def test_several_sequences(pair: Pair) -> None:
    check_several_sequences(pair, first=1, tokens=30)


def test_drafts_of_a_continued_conversation_are_those_of_a_fresh_cache(pair: Pair) -> None:
    """Heads that took no step meanwhile have read what was accepted, rejected or never drafted."""
    clear(pair)
    prompt = PROMPT
    for n_draft in (3, 0, 1, 2):
        said, _ = answer(pair, prompt, n_draft, tokens=30)
        prompt = [*prompt, *said, TURN, *range(60, 70)]
    continued = drafts(pair, prompt, 3)
    clear(pair)
    assert drafts(pair, prompt, 3) == continued


def test_each_step_is_of_its_own_head(path: Path, pair: Pair, tmp_path: Path) -> None:
    """Spoiling a head changes the draft from its step on, and nothing before."""
    clear(pair)
    expected = drafts(pair, PROMPT, 8)
    assert len(expected) == 3
    for head in range(3):
        spoiled = _spoiled(path, tmp_path / f"{head}.gguf", head)
        with Pair.load(spoiled, spoiled, LoadOptions(threads=1, context=256)) as other:
            found = drafts(other, PROMPT, 8)
        assert found[:head] == expected[:head]
        assert found[head] != expected[head]


def _spoiled(path: Path, to: Path, head: int) -> Path:
    """Writes a copy whose head of this number mixes its inputs in another way."""
    name = f"blk.{BLOCKS + head}.nextn.eh_proj.weight"
    data = bytearray(path.read_bytes())
    tensor = next(t for t in GGUFReader(str(path)).tensors if t.name == name)
    start, end = tensor.data_offset, tensor.data_offset + tensor.n_bytes
    weights = np.frombuffer(data[start:end], np.float32)
    data[start:end] = weights[::-1].tobytes()
    to.write_bytes(data)
    return to


def test_heads_in_a_file_of_their_own(tmp_path: Path) -> None:
    target, heads = tmp_path / "target.gguf", tmp_path / "mtp-heads.gguf"
    write_model(target, "step35", head=False)
    write_model(heads, "step35", trunk=False, heads=2)
    with Pair.load(target, heads, LoadOptions(threads=1, context=256)) as pair:
        assert isinstance(pair.drafter, HeadDrafter) and pair.drafter.max_draft == 2
        plain, _ = answer(pair, PROMPT, 0, tokens=30)
        clear(pair)
        drafted, stats = answer(pair, PROMPT, 3, tokens=30)
        assert drafted == plain
        assert stats.accepted > 5
