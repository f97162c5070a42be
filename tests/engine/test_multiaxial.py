"""Images with positions on several axes (M-RoPE): fewer than rows, before recurrent layers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import Prefill, Prefiller, prefill
from localmtp.engine.drafters.head import HeadDrafter
from localmtp.engine.events import Finished, Generated
from localmtp.engine.llama import Floats
from localmtp.engine.media import PlacedMedia, media_ids, surplus_rows
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.media import Media
from tests.engine.test_heads import drafts
from tests.heads import write_qwen35
from tests.media import samples
from tests.qwen2vl import write_qwen2vl
from tests.towers import write_towers

GREEDY, SEEDED = SamplingParams(temperature=0), SamplingParams(temperature=0.7, seed=11)
SAME = 1e-3
"""Rounding of logits in passes of different sizes, in F32."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its head, and a projector."""
    folder = tmp_path_factory.mktemp("multiaxial")
    write_qwen35(folder / "whole.gguf", media=True)
    write_towers(folder / "mmproj.gguf", "qwen", width=64)
    return folder


def opened(folder: Path, **options: Any) -> Pair:
    model = folder / "whole.gguf"
    pair = Pair.load(model, model, replace(LoadOptions(threads=1, context=1024), **options))
    pair.use_projector(folder / "mmproj.gguf", image_tokens=128)
    return pair


@pytest.fixture(scope="module")
def pair(folder: Path) -> Iterator[Pair]:
    with opened(folder, parallel=3) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def empty(pair: Pair) -> None:
    for sequence in pair.sequences:
        sequence.clear()


def image(pair: Pair, width: int = 300, height: int = 200) -> PlacedMedia:
    assert pair.media
    return pair.media.place(Media("image", samples.png(width, height), f"{width}.png"))


Turn = str | PlacedMedia
Conversation = tuple[list[int], list[PlacedMedia]]


def conversation(pair: Pair, *turns: Turn) -> Conversation:
    """Returns the ids of a prompt of texts and images, each a turn of its own."""
    ids: list[int] = []
    tokenize = pair.target.vocab.tokenize
    for turn in turns:
        ids += tokenize("<|im_start|>user\n", special=True)
        ids += tokenize(turn, special=False) if isinstance(turn, str) else turn.tokens
        ids += tokenize("<|im_end|>\n", special=True)
    ids += tokenize("<|im_start|>assistant\n", special=True)
    return ids, [turn for turn in turns if isinstance(turn, PlacedMedia)]


def answer(
    pair: Pair,
    given: Conversation,
    n_draft: int | None = 3,
    sampling: SamplingParams = GREEDY,
    *,
    loop: DecodeLoop | None = None,
    tokens: int = 40,
) -> tuple[list[int], Stats]:
    request = GenerationRequest(
        given[0], sampling, n_draft=n_draft, max_tokens=tokens, media=given[1]
    )
    found: list[int] = []
    for event in (loop or pair.decode_loop()).run(request):
        if isinstance(event, Generated):
            found += [piece.token_id for piece in event.pieces]
        elif isinstance(event, Finished):
            return found, event.stats
    raise AssertionError("no last event")


def continued(pair: Pair, given: Conversation) -> tuple[int, Floats]:
    """Returns how much of a prompt the first sequence reuses, and the logits after it."""
    reused = Prefill(pair.sequences[0], given[0], (), given[1]).reused
    logits: Floats = prefill(pair.sequences[0], *given)[0].copy()
    return reused, logits


def fresh(pair: Pair, given: Conversation) -> Floats:
    """Returns the logits after a prompt that is decoded from its first token on."""
    pair.sequences[-1].clear()
    logits: Floats = prefill(pair.sequences[-1], *given)[0].copy()
    return logits


def test_ids_say_which_rows_take_a_position() -> None:
    ids = media_ids("one", 12, 4)
    assert len(set(ids)) == 12 and max(ids) < 0 and min(ids) >= -(1 << 63)
    assert surplus_rows(ids) == 8
    assert surplus_rows([5, *ids[:4], 6]) == 0
    assert ids[:4] == media_ids("one", 4, 4)


def test_an_image_takes_as_many_positions_as_its_longer_side(pair: Pair) -> None:
    placed = image(pair)
    assert placed.rows == 70
    rows: NDArray[np.int32] = placed.offsets(0, 70)
    assert rows.tolist() == [[0] * 70, [i // 10 for i in range(70)], [*range(10)] * 7]
    given = conversation(pair, "look", placed)
    sequence = pair.sequences[0]
    prefill(sequence, *given)
    assert len(sequence.tokens) == len(given[0])
    assert sequence.position == len(given[0]) - 60
    assert pair.target.cache.end() == sequence.position
    begin = given[0].index(placed.tokens[1])
    assert [sequence.position_of(begin + i) - begin for i in (0, 70, 71)] == [0, 10, 11]


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_drafting_does_not_change_the_text(pair: Pair, sampling: SamplingParams) -> None:
    given = conversation(pair, "what is this", image(pair), "and this", image(pair, 90, 200))
    plain, _ = answer(pair, given, 0, sampling)
    assert plain != answer(pair, conversation(pair, "what is this", "and this"), 0, sampling)[0]
    for n_draft in (1, 3, None):
        pair.sequences[0].clear()
        drafted, stats = answer(pair, given, n_draft, sampling)
        assert drafted == plain
        assert stats.media == 2 and stats.media_tokens == 142
        if n_draft:
            assert stats.drafted > stats.accepted > 3


class Oracle(HeadDrafter):
    """Replaces drafts by right tokens, up to a wrong one at a random place."""

    def __init__(self, pair: Pair, text: Sequence[int]) -> None:
        super().__init__(pair.target.model, pair.target)
        self.random, self.text, self.right = random.Random(4), text, set[int]()

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        super().propose(slots)
        for slot in slots:
            draft, at = slot.draft, len(slot.sequence.tokens) + 1
            wrong = self.random.randrange(len(draft.tokens) + 1)
            for i, token in enumerate(self.text[at : at + len(draft.tokens)]):
                draft.tokens[i] = token if i < wrong else (token + 1) % 500
            self.right.add(wrong)


def test_every_partial_acceptance_behind_an_image_leads_to_the_same_text(folder: Path) -> None:
    with opened(folder) as pair:
        given = conversation(pair, image(pair), "tell me")
        plain, _ = answer(pair, given, 0, tokens=120)
        oracle = Oracle(pair, [*given[0], *plain, *[0] * 9])
        loop = DecodeLoop(pair.target, pair.sequences, oracle)
        for length in (1, 4, 8):
            pair.sequences[0].clear()
            assert answer(pair, given, length, loop=loop, tokens=110)[0] == plain[:110]
        assert oracle.right == set(range(9))
        oracle.close()


def test_editing_and_regenerating(pair: Pair) -> None:
    one, other = image(pair), image(pair, 90, 200)
    opening = "look at this first of all " * 3
    first = conversation(pair, opening, one)
    said, _ = answer(pair, first)
    again, stats = answer(pair, first)
    assert again == said and stats.reused_tokens > len(first[0]) - 16
    second = conversation(pair, opening, one, "now another", other, "which one")
    answer(pair, second)
    edited = conversation(pair, opening, one, "now another", other, "where is it")
    swapped = conversation(pair, opening, other, "now another", one)
    for given in (edited, second, first, swapped):
        reused, logits = continued(pair, given)
        assert 0 <= reused < len(given[0])
        np.testing.assert_allclose(logits, fresh(pair, given), atol=SAME)
        answer(pair, given, tokens=12)


def test_an_edited_question_behind_an_image_prefills_text_alone(pair: Pair) -> None:
    one = image(pair)
    answer(pair, conversation(pair, one, "what is it that you see in this one"))
    reused, _ = continued(pair, conversation(pair, one, "where was it that you saw this one"))
    assert reused > one.rows


def test_a_state_right_behind_an_image_is_not_rolled_back_into_it(pair: Pair) -> None:
    """All its rows have one position, by which libllama counts the states to go back."""
    one, sequence, cache = image(pair), pair.sequences[0], pair.target.cache
    ids, media = conversation(pair, "look", one)
    begin, behind = ids.index(one.tokens[1]), ids.index(one.tokens[-1])
    prefill(sequence, ids[:behind], media)
    assert cache.can_roll_back(sequence.position)
    assert not cache.can_roll_back(sequence.position_of(begin))
    text = [*ids[:begin], 60, 61]
    prefill(sequence, text)
    np.testing.assert_allclose(prefill(sequence, text)[0], fresh(pair, (text, [])), atol=SAME)


def test_images_longer_than_a_pass(folder: Path, pair: Pair) -> None:
    with opened(folder, batch=32) as small:
        given = conversation(small, "what is this", image(small), "and")
        assert answer(small, given)[0] == answer(pair, given, 0)[0]


def test_a_prefill_that_ends_inside_an_image_begins_it_again(folder: Path) -> None:
    with opened(folder, batch=32, parallel=2) as pair:
        given = conversation(pair, image(pair), "and")
        sequence, prefiller = pair.sequences[0], Prefiller(pair.target)
        one = Prefill(sequence, given[0], (), given[1])
        while len(sequence.tokens) < 32:
            prefiller.step([one])
        assert one.at_media and len(sequence.tokens) < 70
        _, logits = continued(pair, given)
        np.testing.assert_allclose(logits, fresh(pair, given), atol=SAME)


def test_answers_about_different_images_share_passes_and_prefixes(pair: Pair) -> None:
    rules = "keep all answers short, and in plain language, without exception. " * 2
    one, other = image(pair), image(pair, 90, 200)
    prompts = [
        conversation(pair, rules, one, "what is it"),
        conversation(pair, rules, one, "where is it, say"),
        conversation(pair, rules, other, "what is it"),
    ]
    expected = []
    for given in prompts:
        empty_all(pair)
        expected.append(answer(pair, given, 0)[0])
    empty_all(pair)
    loop, found = pair.decode_loop(), dict[object, list[int]]()
    reused = []
    for ids, media in prompts:
        while found and not loop.decoding:
            take(loop, found)
        request = GenerationRequest(ids, GREEDY, n_draft=3, max_tokens=40, media=media)
        generation = loop.start(request)
        reused.append(generation.counters.reused_tokens)
        found[generation] = []
    while loop.active:
        take(loop, found)
    assert [*found.values()] == expected
    assert reused[1] > 70


def empty_all(pair: Pair) -> None:
    for sequence in pair.sequences:
        sequence.clear()


def take(loop: DecodeLoop, found: dict[object, list[int]]) -> None:
    for generation, event in loop.step():
        if isinstance(event, Generated):
            found[generation] += [piece.token_id for piece in event.pieces]


def test_drafts_of_a_continued_conversation_are_those_of_a_fresh_cache(pair: Pair) -> None:
    one, other = image(pair), image(pair, 90, 200)
    ids, media = conversation(pair, "what is this " * 3, one)
    for n_draft in (3, 0, None, 2):
        said, _ = answer(pair, (ids, media), n_draft, tokens=30)
        more, images = conversation(pair, "and this", other) if n_draft == 0 else ([], [])
        question, _ = conversation(pair, "and then?")
        ids, media = [*ids, *said, *more, *question], [*media, *images]
    continuing = drafts(pair, ids, media=media)
    empty_all(pair)
    assert drafts(pair, ids, media=media) == continuing


def test_a_saved_conversation_with_images_continues_as_if_it_had_stayed(
    folder: Path, pair: Pair
) -> None:
    loop, one = pair.decode_loop(), image(pair)
    first = conversation(pair, "what is this " * 3, one)
    said, _ = answer(pair, first, loop=loop)
    state = loop.state(max(pair.sequences, key=lambda each: len(each.tokens)))
    assert state
    question, _ = conversation(pair, "and then?")
    given = [*first[0], *said, *question], [one]
    edited = conversation(pair, "what is this " * 3, one, "not that")
    expected, stayed = answer(pair, given, loop=loop)
    after_edit, _ = answer(pair, edited, 0, loop=loop)
    with opened(folder) as other:
        loop = other.decode_loop()
        assert loop.load(state)
        found, stats = answer(other, given, loop=loop)
        assert found == expected
        counted = ("reused_tokens", "drafted", "accepted")
        assert all(getattr(stats, name) == getattr(stayed, name) for name in counted)
        assert stats.reused_tokens > one.rows
        assert loop.load(state)
        found, stats = answer(other, edited, loop=loop)
        assert found == after_edit and stats.reused_tokens > one.rows


# Qwen 2 VL: no recurrent layers, so the cache is cut at any place.


@pytest.fixture(scope="module")
def dense(folder: Path) -> Iterator[Pair]:
    """A model without a drafter, which copies drafts from the context."""
    model = write_qwen2vl(folder / "qwen2vl.gguf")
    options = LoadOptions(threads=1, context=1024, parallel=2)
    with Pair.load(model, None, options, lookup=True) as pair:
        pair.use_projector(folder / "mmproj.gguf", image_tokens=128)
        yield pair


def test_a_cache_of_cells_is_cut_at_any_place_behind_an_image(dense: Pair) -> None:
    one, other = image(dense), image(dense, 90, 200)
    given = conversation(dense, "look", one, "say again, say again", other, "say again, say")
    said, _ = answer(dense, given, 0)
    empty_all(dense)
    assert answer(dense, given)[0] == said
    for again in (
        conversation(dense, "look", one, "say again, say again", other, "say it"),
        conversation(dense, "look", one, "say again, and not", other, "say again, say"),
        given,
        conversation(dense, "look", other, "say again, say again", one, "say again, say"),
    ):
        reused, logits = continued(dense, again)
        assert reused > (70 if again[1][0] is one else 10)
        np.testing.assert_allclose(logits, fresh(dense, again), atol=SAME)


def test_a_saved_state_with_images_is_loaded_into_another_sequence(dense: Pair) -> None:
    empty_all(dense)
    sequence, second = dense.sequences
    given = conversation(dense, "look", image(dense), "what is it")
    prefill(sequence, *given)
    state = sequence.state()
    assert state and second.load(state)
    assert second.position == sequence.position == len(given[0]) - 60
    more = [*given[0], 40, 41, 42]
    logits = [prefill(each, more)[0].copy() for each in (sequence, second)]
    np.testing.assert_array_equal(*logits)
    second.clear()
    np.testing.assert_allclose(prefill(second, more, given[1])[0], logits[0], atol=SAME)
