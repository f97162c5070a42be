"""Conversations outlive their cells and their sequence, and continue as if they had them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.events import Finished, Generated
from localmtp.engine.llama import Floats
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import Draft
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Greedy
from localmtp.engine.stats import Stats
from localmtp.models import resolve
from tests.engine.near_ties import assert_differ_at_near_ties_only

GREEDY = SamplingParams(temperature=0.0)
LONG = "Here is a list of animals: " + ", ".join(["fox", "cat", "hen"] * 20)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=1024, parallel=3)
    with Pair.load(files.target, files.drafter, options) as loaded:
        yield loaded


@pytest.fixture
def loop(pair: Pair) -> DecodeLoop:
    for sequence in pair.sequences:
        sequence.clear()
    return pair.decode_loop()


def prompt_of(pair: Pair, question: str) -> list[int]:
    vocab = pair.target.vocab
    text = f"<|turn>user\n{question}<turn|>\n<|turn>model\n"
    return [vocab.bos, *vocab.tokenize(text, special=True)]


def answer(
    loop: DecodeLoop, prompt: Sequence[int], n_draft: int = 0, max_tokens: int = 40
) -> tuple[list[int], Stats]:
    request = GenerationRequest(prompt, GREEDY, n_draft=n_draft, max_tokens=max_tokens)
    tokens: list[int] = []
    for event in loop.run(request):
        if isinstance(event, Generated):
            tokens += [piece.token_id for piece in event.pieces]
        if isinstance(event, Finished):
            return tokens, event.stats
    raise AssertionError("no end")


def swapped(pair: Pair) -> int:
    return sum(sequence.swapped_bytes > 0 for sequence in pair.sequences)


def busy(pair: Pair, loop: DecodeLoop) -> None:
    """Answer another question for as many passes as swap out whatever is idle."""
    prompt = prompt_of(pair, "Tell me a story.")
    policy = GenerationRequest(prompt, GREEDY, n_draft=0, max_tokens=400, cancelled=lambda: False)
    generation = loop.start(policy)
    for _ in range(40):
        loop.step()
    passes = 40
    while passes < 200:
        if generation.reason is not None:
            generation = loop.start(policy)
        loop.step()
        passes += 1
    loop.cancel_all()


@pytest.mark.parametrize("n_draft", [0, 3])
def test_a_conversation_continues(pair: Pair, loop: DecodeLoop, n_draft: int) -> None:
    prompt = prompt_of(pair, LONG)
    first, _ = answer(loop, prompt, n_draft)
    busy(pair, loop)
    assert swapped(pair) == 1
    longer = [*prompt, *first, *prompt_of(pair, "Who are you?")[1:]]
    found, stats = answer(loop, longer, n_draft)
    assert stats.reused_tokens >= len(prompt)
    assert swapped(pair) == 0
    for sequence in pair.sequences:
        sequence.clear()
    expected, fresh = answer(loop, longer, n_draft)
    assert not fresh.reused_tokens
    assert_differ_at_near_ties_only(pair.sequences[0], longer, expected, found)
    if found == expected:
        assert abs(stats.accepted - fresh.accepted) <= 2


def test_an_edited_question_returns_to_a_checkpoint(pair: Pair, loop: DecodeLoop) -> None:
    prompt = prompt_of(pair, LONG)
    first, _ = answer(loop, prompt)
    longer = [*prompt, *first, *prompt_of(pair, "Who are you?")[1:]]
    answer(loop, longer)
    busy(pair, loop)
    edited = [*prompt, *first, *prompt_of(pair, "Count from 1 to 5.")[1:]]
    found, stats = answer(loop, edited)
    assert stats.reused_tokens >= len(prompt)
    expected, _ = answer(pair_loop(pair), edited)
    assert_differ_at_near_ties_only(pair.sequences[0], edited, expected, found)


def test_its_prefix_is_shared(pair: Pair, loop: DecodeLoop) -> None:
    prompt = prompt_of(pair, LONG)
    answer(loop, prompt)
    busy(pair, loop)
    assert swapped(pair) == 1
    # So long that it takes the least recently used sequence instead of the one that begins so.
    other = [*prompt[:100], *prompt_of(pair, "Tell me about the sun. " * 150)[1:]]
    found, stats = answer(loop, other)
    assert stats.reused_tokens >= 64
    expected, _ = answer(pair_loop(pair), other)
    assert_differ_at_near_ties_only(pair.sequences[0], other, expected, found)


def test_another_prompt_takes_its_place(pair: Pair, loop: DecodeLoop) -> None:
    for _ in range(3):
        answer(loop, prompt_of(pair, LONG))
        busy(pair, loop)
    for question in ("Who are you?", "Count from 1 to 5.", "Tell me about the sun."):
        prompt = prompt_of(pair, question)
        found, _ = answer(loop, prompt)
        expected, _ = answer(pair_loop(pair), prompt)
        assert_differ_at_near_ties_only(pair.sequences[0], prompt, expected, found)


class _Recorded(Greedy):
    """Keeps the logits that it chose from."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Floats] = []

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        self.rows.append(logits.copy())
        return super().accept(logits, draft)


def test_holes_of_others_do_not_change_the_order_of_cells(pair: Pair, loop: DecodeLoop) -> None:
    """The answer's cells follow those of its prompt: attention rounds as in an empty pool."""
    prompt = prompt_of(pair, LONG)[:44]

    def logits(loop: DecodeLoop) -> Floats:
        sampler = _Recorded()
        request = GenerationRequest(prompt, GREEDY, n_draft=0, max_tokens=30, sampler=sampler)
        assert list(loop.run(request))
        return np.concatenate(sampler.rows)

    answer(loop, prompt_of(pair, "Tell me about the sun. " * 15))
    logits(loop)
    for number in range(16):  # passes until the first conversation is swapped out
        answer(loop, [*prompt[:40], *prompt_of(pair, f"Count to {number}.")[1:]])
    assert swapped(pair) == 1
    found = logits(loop)
    expected = logits(pair_loop(pair))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("n_draft", [0, 3])
def test_a_conversation_returns_after_others_took_its_sequence(
    pair: Pair, loop: DecodeLoop, n_draft: int
) -> None:
    del loop  # empties the sequences
    loop = pair.decode_loop(max_cached=64 << 20)
    prompt = prompt_of(pair, LONG)
    first, _ = answer(loop, prompt, n_draft)
    for subject in ("fox", "sun", "king", "crow"):
        answer(loop, prompt_of(pair, f"Tell me about the {subject}. {LONG[27:]}"), n_draft)
    longer = [*prompt, *first, *prompt_of(pair, "Who are you?")[1:]]
    assert all(sequence.shared_prefix(longer) < 10 for sequence in pair.sequences)
    assert loop.longest_prefix(longer) >= len(prompt)
    found, stats = answer(loop, longer, n_draft)
    assert stats.reused_tokens >= len(prompt)
    expected, fresh = answer(pair_loop(pair), longer, n_draft)
    assert_differ_at_near_ties_only(pair.sequences[0], longer, expected, found)
    if found == expected:
        assert abs(stats.accepted - fresh.accepted) <= 2


def test_an_edited_question_returns_from_the_cache(pair: Pair, loop: DecodeLoop) -> None:
    """The state is cut at a checkpoint: its window has moved on."""
    loop = pair.decode_loop(max_cached=64 << 20)
    prompt = prompt_of(pair, LONG)
    first, _ = answer(loop, prompt)
    answer(loop, [*prompt, *first, *prompt_of(pair, "Who are you?")[1:]])
    for subject in ("fox", "sun", "king"):
        answer(loop, prompt_of(pair, f"Tell me about the {subject}. {LONG[27:]}"))
    edited = [*prompt, *first, *prompt_of(pair, "Count from 1 to 5.")[1:]]
    found, stats = answer(loop, edited)
    assert stats.reused_tokens >= len(prompt)
    expected, _ = answer(pair_loop(pair), edited)
    assert_differ_at_near_ties_only(pair.sequences[0], edited, expected, found)


def test_the_cache_is_bounded(pair: Pair, loop: DecodeLoop) -> None:
    prompts = [
        prompt_of(pair, f"Tell me about the {subject}. {LONG[27:]}")
        for subject in ("fox", "sun", "king", "crow", "moon", "sea", "hen")
    ]
    answer(loop, prompts[0])
    state = loop.state(next(each for each in pair.sequences if each.tokens))
    assert state is not None
    for sequence in pair.sequences:
        sequence.clear()
    loop = pair.decode_loop(max_cached=2 * state.nbytes + state.nbytes // 2)
    for prompt in prompts:
        answer(loop, prompt)
    cached = [loop.longest_prefix(prompt) > 64 for prompt in prompts]
    # The latest three are in sequences, two before them in the cache.
    assert cached == [False, False, True, True, True, True, True]


def pair_loop(pair: Pair) -> DecodeLoop:
    """A loop on empty sequences."""
    for sequence in pair.sequences:
        sequence.clear()
    return pair.decode_loop()
