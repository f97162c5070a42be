"""Checkpoints: rolling back beyond the sliding window changes nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.checkpoints import Checkpoints
from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.prefill import Prefill, prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.sampler import Greedy
from tests.pairs import TINY, write_pair

ROUNDING = 0.4
"""Batching changes nano's logits by up to 0.2; a window that lost half of its keys, by 5 to 10."""


def tokens_of(pair: Pair, text: str) -> list[int]:
    return pair.target.vocab.tokenize(text, special=True)


def turn(pair: Pair, question: str, times: int) -> list[int]:
    bos = pair.target.vocab.bos
    text = f"<|turn>user\n{question * times}<turn|>\n<|turn>model\n"
    return [bos, *tokens_of(pair, text)]


def follow(target: TargetSequence, prompt: Sequence[int], tokens: Sequence[int]) -> list[Floats]:
    """Returns logits after the prompt, and after each of the tokens."""
    rows = [prefill(target, prompt)[0].copy()]
    for token in tokens:
        rows.append(target.verify(token)[0].copy())
        target.commit(token, (), 0)
    return rows


@pytest.mark.parametrize(
    "question", ["Count from 3 to 40. ", "Tell me a story about a fox. ", "one, two, three "]
)
def test_a_restored_window_gives_the_same_logits_as_a_fresh_one(pair: Pair, question: str) -> None:
    target = pair.sequences[0]
    prompt = turn(pair, question, 30)
    answer = tokens_of(pair, " four five six seven cat" * 130)[: 1000 - len(prompt)]
    target.clear()
    fresh, hidden = follow(target, prompt, answer[:12]), target.hidden.copy()

    prefill(target, [*prompt, *answer])
    assert target.context.cache.earliest_position() > len(prompt) - target.context.window
    assert len(prompt) - 8 < Prefill(target, prompt).reused < len(prompt)
    for expected, found in zip(fresh, follow(target, prompt, answer[:12]), strict=True):
        np.testing.assert_allclose(found, expected, atol=ROUNDING)
    error = np.linalg.norm(target.hidden - hidden) / np.linalg.norm(hidden)
    assert error < 0.1


@pytest.mark.parametrize("shape", TINY)
def test_every_shape_of_gemma_4_is_restored(tmp_path: Path, shape: str) -> None:
    """Shared keys and values, experts, values that are keys; a window of 16 tokens."""
    paths = tmp_path / "target.gguf", tmp_path / "drafter.gguf"
    write_pair(TINY[shape], *paths)
    with Pair.load(*paths, LoadOptions(threads=1, context=1024)) as pair:
        target = pair.sequences[0]
        prompt = turn(pair, "abcdef", 20)
        answer = tokens_of(pair, "uvwxyz" * 130)
        fresh, hidden = prefill(target, prompt)[0].copy(), target.hidden.copy()
        prefill(target, [*prompt, *answer])
        assert target.context.cache.earliest_position() > len(prompt)
        assert len(prompt) - 20 < Prefill(target, prompt).reused < len(prompt)
        np.testing.assert_allclose(prefill(target, prompt)[0], fresh, atol=0.01)
        np.testing.assert_allclose(target.hidden, hidden, atol=0.01)


def test_acceptance_after_a_restore_is_the_same(pair: Pair) -> None:
    target = pair.sequences[0]
    prompt = turn(pair, "Count from 3 to 40. ", 20)
    prefill(target, prompt)
    prefill(target, [*prompt, *tokens_of(pair, " cat" * 700)[: 1000 - len(prompt)]])
    restored = _drafted(pair, prompt)
    target.clear()
    assert restored == _drafted(pair, prompt)


def test_checkpoints_of_changed_tokens_are_discarded(pair: Pair) -> None:
    target = pair.sequences[0]
    one, other = turn(pair, "Say cat. ", 60), turn(pair, "Say dog. ", 60)
    target.clear()
    prefill(target, one)
    prefill(target, other)
    prefill(target, [*other, *tokens_of(pair, " cat" * 700)[: 1000 - len(other)]])
    shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    assert Prefill(target, one).reused <= shared


def test_memory_is_bounded_and_the_latest_checkpoint_stays(pair: Pair) -> None:
    target = pair.sequences[0]
    target.clear()
    prefill(target, tokens_of(pair, "one two three " * 60)[:300])
    kept = Checkpoints(target.context.cache)
    places = range(10, 310, 10)
    for place in places:
        kept.save(place)
    found = {kept.restore(place) for place in places}
    assert len(found) < 20
    assert max(places) in found
    assert min(found) < 50  # spread over the conversation, not the latest alone
    target.clear()


def _drafted(pair: Pair, prompt: Sequence[int]) -> list[int]:
    pending = int(prefill(pair.sequences[0], prompt)[0].argmax())
    slot = DraftSlot(pair.sequences[0], Greedy(), policy := FixedPolicy(4), pending)
    policy.begin_round(4, RoundPlan())
    assert pair.drafter
    pair.drafter.propose([slot])
    return slot.draft.tokens
