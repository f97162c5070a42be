"""MTP heads with a KV cache of their own: the text is that of decoding without drafts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import Prefill, Prefiller, prefill
from localmtp.engine.drafters.head import HeadDrafter
from localmtp.engine.events import Finished, Generated
from localmtp.engine.llama import Floats, Model
from localmtp.engine.media import PlacedMedia
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.recurrent import RollbackError
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Greedy
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from tests.heads import Qwen35, write_qwen35

GREEDY, SEEDED = SamplingParams(temperature=0), SamplingParams(temperature=0.7, seed=11)
PROMPT = [40, 50, 60, 70, 41, 51, 61, 71, 99, 120, 33] * 3
SAME = 1e-3
"""Rounding of logits in passes of different sizes, in F32; a wrong state moves them by 1 to 6."""


@pytest.fixture(scope="module", params=["dense", "experts", "head in a file of its own"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, shape = tmp_path_factory.mktemp("heads"), Qwen35(moe=request.param == "experts")
    whole, target, head = (folder / f"{name}.gguf" for name in ("whole", "target", "mtp-head"))
    if request.param != "head in a file of its own":
        write_qwen35(whole, shape)
        return [whole, whole]
    write_qwen35(target, shape, head=False)
    write_qwen35(head, shape, trunk=False)
    return [target, head]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """Loads a small dense model with its head; the caller closes it."""
    path = tmp_path_factory.mktemp("head") / "whole.gguf"
    write_qwen35(path)

    def open_pair(**options: Any) -> Pair:
        return Pair.load(path, path, replace(LoadOptions(threads=1, context=512), **options))

    return open_pair


@pytest.fixture(scope="module")
def pair(load: Callable[..., Pair]) -> Iterator[Pair]:
    with load(parallel=3) as loaded:
        yield loaded


def answer(
    pair: Pair,
    prompt: Sequence[int],
    n_draft: int | None,
    sampling: SamplingParams = GREEDY,
    *,
    loop: DecodeLoop | None = None,
    tokens: int = 60,
) -> tuple[list[int], Stats]:
    """Returns the token ids of an answer, and its statistics."""
    request = GenerationRequest(prompt, sampling, n_draft=n_draft, max_tokens=tokens)
    found: list[int] = []
    for event in (loop or pair.decode_loop()).run(request):
        if isinstance(event, Generated):
            found += [piece.token_id for piece in event.pieces]
        elif isinstance(event, Finished):
            return found, event.stats
    raise AssertionError("no last event")


def clear(pair: Pair) -> None:
    for sequence in pair.sequences:
        sequence.clear()


def fresh(pair: Pair, prompt: Sequence[int]) -> Floats:
    """Returns logits after a prompt that is decoded from its first token on."""
    last = pair.sequences[-1]
    last.clear()
    logits: Floats = prefill(last, prompt)[0].copy()
    return logits


def drafts(
    pair: Pair, prompt: Sequence[int], length: int = 4, media: Sequence[PlacedMedia] = ()
) -> list[int]:
    """Returns what the head drafts after a prompt."""
    assert pair.drafter
    sequence = pair.sequences[0]
    pair.target.on_host_rows(sequence.index)
    one, prefiller = Prefill(sequence, prompt, (), media), Prefiller(pair.target)
    while one.remaining:
        begin = one.done
        ((_, logits),) = prefiller.step([one])
        pair.drafter.prefilled(sequence, begin)
    slot = DraftSlot(sequence, Greedy(), policy := FixedPolicy(length), int(logits[0].argmax()))
    policy.begin_round(length, RoundPlan())
    pair.drafter.propose([slot])
    return slot.draft.tokens


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_drafting_does_not_change_the_text(files: list[Path], sampling: SamplingParams) -> None:
    with Pair.load(files[0], files[1], LoadOptions(threads=1, context=512)) as pair:
        plain, _ = answer(pair, PROMPT, 0, sampling)
        for n_draft in (1, 3, None):
            clear(pair)
            drafted, stats = answer(pair, PROMPT, n_draft, sampling)
            assert drafted == plain
            if n_draft:
                assert stats.drafted > stats.accepted > 3


class Oracle(HeadDrafter):
    """Replaces drafts by right tokens, up to a wrong one at a random place."""

    def __init__(self, model: Model, pair: Pair, text: Sequence[int]) -> None:
        super().__init__(model, pair.target)
        self.random, self.text = random.Random(4), text
        self.right: Counter[int] = Counter()

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        super().propose(slots)
        for slot in slots:
            draft, at = slot.draft, len(slot.sequence.tokens) + 1
            wrong = self.random.randrange(len(draft.tokens) + 1)
            for i, token in enumerate(self.text[at : at + len(draft.tokens)]):
                draft.tokens[i] = token if i < wrong else (token + 1) % 500
            self.right[wrong] += 1


def test_every_partial_acceptance_leads_to_the_same_text(load: Callable[..., Pair]) -> None:
    with load() as pair:
        plain, _ = answer(pair, PROMPT, 0, tokens=190)
        clear(pair)
        oracle = Oracle(pair.target.model, pair, [*PROMPT, *plain, 0, 0, 0, 0, 0])
        loop = DecodeLoop(pair.target, pair.sequences, oracle)
        for length in (1, 2, 3, 4, 8):
            clear(pair)
            assert answer(pair, PROMPT, length, loop=loop, tokens=180)[0] == plain[:180]
        assert set(oracle.right) == set(range(9))
        oracle.close()


def check_several_sequences(pair: Pair, first: int, tokens: int) -> None:
    """Compares answers decoded together, each with one draft more than the last, with single ones.

    Args:
        pair: with three sequences.
        first: draft length of the first.
        tokens: length of the answers.
    """
    prompts = [[(7 * i + k) % 200 + 10 for i in range(20 + 9 * k)] for k in range(3)]
    expected = []
    for prompt in prompts:
        clear(pair)
        expected.append(answer(pair, prompt, 0, tokens=tokens)[0])
    clear(pair)
    loop = pair.decode_loop()
    found = {
        loop.start(GenerationRequest(prompt, GREEDY, n_draft=n_draft, max_tokens=tokens)): list[
            int
        ]()
        for n_draft, prompt in enumerate(prompts, first)
    }
    accepted = 0
    while loop.active:
        for one, event in loop.step():
            if isinstance(event, Generated):
                found[one] += [piece.token_id for piece in event.pieces]
            elif isinstance(event, Finished):
                accepted += event.stats.accepted
    assert list(found.values()) == expected
    assert accepted > 10


def test_several_sequences_are_rolled_back_by_unequal_numbers_of_rows(pair: Pair) -> None:
    check_several_sequences(pair, first=2, tokens=40)


def test_a_prompt_without_tokens_is_refused(pair: Pair) -> None:
    """A vocabulary without BOS and without bytes may have no token of a text."""
    with pytest.raises(LocalmtpError, match="no tokens"):
        answer(pair, [], 3)
    assert answer(pair, PROMPT, 3)[0]


def test_prompts_longer_than_a_pass(load: Callable[..., Pair]) -> None:
    prompt = [i % 200 + 10 for i in range(150)]
    with load(batch=40) as pair, load() as whole:
        assert answer(pair, prompt, 3)[0] == answer(whole, prompt, 0)[0]
        clear(pair)
        clear(whole)
        assert drafts(pair, prompt) == drafts(whole, prompt)


def test_a_small_batch_limits_the_drafts(load: Callable[..., Pair]) -> None:
    """Fewer rows of a micro-batch than states to keep would abort the process."""
    with load(batch=4) as pair:
        assert pair.target.max_draft == 2
        drafted, stats = answer(pair, PROMPT[:5], 8, tokens=20)
        assert stats.tokens_per_pass <= 3.0
        clear(pair)
        assert drafted == answer(pair, PROMPT[:5], 0, tokens=20)[0]


# The traps of recurrent states: libllama answers with wrong logits, or aborts.


def decoded(pair: Pair, *passes: Sequence[int]) -> None:
    """Decodes tokens in passes of these sizes on the first sequence."""
    sequence = pair.sequences[0]
    sequence.clear()
    at = 0
    for tokens in passes:
        pair.target.verify([(0, at, tokens)])
        at += len(tokens)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6])
def test_rolling_back_within_the_last_pass(pair: Pair, rows: int) -> None:
    text = [*range(20, 60)]
    decoded(pair, text[:20], text[20:25])
    cache = pair.target.cache
    assert cache.can_roll_back(25 - rows) == (rows < 5)
    if rows < 5:
        cache.remove_from(25 - rows)
        logits = pair.target.verify([(0, 25 - rows, (77,))])[0]
        np.testing.assert_allclose(logits, fresh(pair, [*text[: 25 - rows], 77]), atol=SAME)
    else:
        with pytest.raises(RollbackError, match="cannot be rolled back"):
            cache.remove_from(25 - rows)


def test_rolling_back_beyond_the_last_pass_is_an_error(pair: Pair) -> None:
    text = [*range(20, 60)]
    decoded(pair, text[:20], text[20:25], text[25:26], text[26:27])
    with pytest.raises(RollbackError):
        pair.target.cache.remove_from(24)


def test_rolling_back_twice_is_an_error(pair: Pair) -> None:
    decoded(pair, range(20, 40))
    pair.target.cache.remove_from(19)
    with pytest.raises(RollbackError):
        pair.target.cache.remove_from(18)
    pair.target.cache.remove_from(0)


def test_rolling_back_a_restored_state_is_an_error(pair: Pair) -> None:
    text, cache = [*range(20, 60)], pair.target.cache
    decoded(pair, text[:20])
    state = cache.copy_state()
    pair.target.verify([(0, 20, text[20:30])])
    assert cache.restore_state(state)
    with pytest.raises(RollbackError):
        cache.remove_from(18)
    cache.remove_from(20)
    logits = pair.target.verify([(0, 20, (77,))])[0]
    np.testing.assert_allclose(logits, fresh(pair, [*text[:20], 77]), atol=SAME)


def test_a_state_copied_after_rolling_back_is_the_one_rolled_back_to(pair: Pair) -> None:
    text, cache = [*range(20, 60)], pair.target.cache
    decoded(pair, text[:20], text[20:25])
    cache.remove_from(22)
    state = cache.copy_state()
    pair.target.verify([(0, 22, text[22:30])])
    assert cache.restore_state(state)
    cache.remove_from(22)
    logits = pair.target.verify([(0, 22, (77,))])[0]
    np.testing.assert_allclose(logits, fresh(pair, [*text[:22], 77]), atol=SAME)


def test_rows_of_an_interrupted_pass_are_removed(pair: Pair) -> None:
    clear(pair)
    sequence = pair.sequences[0]
    prompt = turns(pair, "a first question " * 3)
    prefill(sequence, prompt)
    for rows in ([30, 31, 32], [40] * 7, [50]):  # decoded, and never committed
        sequence.verify(rows[0], rows[1:])
        longer = [*prompt, 60, 61]
        assert Prefill(sequence, longer).reused > 16
        np.testing.assert_allclose(prefill(sequence, longer)[0], fresh(pair, longer), atol=SAME)


# Conversations: prompts are edited, answered again, continued, shared.


def turns(pair: Pair, *texts: str) -> list[int]:
    text = "".join(f"<|im_start|>user\n{text}<|im_end|>\n" for text in texts)
    return pair.target.vocab.tokenize(f"{text}<|im_start|>assistant\n", special=True)


def test_editing_and_regenerating_continue_from_checkpoints(pair: Pair) -> None:
    clear(pair)
    sequence = pair.sequences[0]
    one, two = turns(pair, "a first question " * 3), turns(pair, "a first question " * 3, "second")
    edited = turns(pair, "a first question " * 3, "third and last")
    said, _ = answer(pair, one, 3)
    again, stats = answer(pair, one, 3)
    assert again == said and stats.reused_tokens > len(one) - 16  # regenerated
    answer(pair, two, 3)
    for prompt in (edited, two, one):
        reused = Prefill(sequence, prompt).reused
        assert 16 < reused < len(prompt)
        np.testing.assert_allclose(prefill(sequence, prompt)[0], fresh(pair, prompt), atol=SAME)


def test_drafts_after_a_checkpoint_are_those_of_a_fresh_cache(pair: Pair) -> None:
    clear(pair)
    prompt = turns(pair, "a first question " * 3)
    expected = drafts(pair, prompt)
    said, stats = answer(pair, prompt, 3)
    assert Prefill(pair.sequences[0], prompt).reused > 16
    assert drafts(pair, prompt) == expected
    again, same = answer(pair, prompt, 3)
    assert (again, same.accepted, same.drafted) == (said, stats.accepted, stats.drafted)


def test_drafts_of_a_continued_conversation_are_those_of_a_fresh_cache(pair: Pair) -> None:
    """What was accepted, rejected or never drafted is in the head's cache as if it were prompt."""
    clear(pair)
    prompt = turns(pair, "a first question " * 3)
    for n_draft in (3, 0, None, 2):
        said, _ = answer(pair, prompt, n_draft, tokens=45)
        prompt = [*prompt, *said, *turns(pair, "and then?")]
    continued = drafts(pair, prompt)
    clear(pair)
    assert drafts(pair, prompt) == continued


def test_a_prefix_is_shared_at_a_checkpoint_only(pair: Pair) -> None:
    clear(pair)
    rules = "keep all answers short, and in plain language, without exception. " * 3
    prompts = [turns(pair, rules, question) for question in ("one", "two", "three")]
    expected = []
    for prompt in prompts:
        clear(pair)
        expected.append(answer(pair, prompt, 3, tokens=30))
    clear(pair)
    loop = pair.decode_loop()
    first = loop.start(GenerationRequest(prompts[0], GREEDY, n_draft=3, max_tokens=30))
    while not loop.decoding:
        loop.step()
    others = [
        loop.start(GenerationRequest(prompt, GREEDY, n_draft=3, max_tokens=30))
        for prompt in prompts[1:]
    ]
    found: dict[object, list[int]] = {one: [] for one in others}
    ends: dict[object, Stats] = {}
    while loop.active:
        for one, event in loop.step():
            if isinstance(event, Generated) and one in found:
                found[one] += [piece.token_id for piece in event.pieces]
            elif isinstance(event, Finished):
                ends[one] = event.stats
    assert ends[first].reused_tokens == 0
    for one, (tokens, stats) in zip(others, expected[1:], strict=True):
        assert found[one] == tokens
        assert ends[one].reused_tokens > 64
        assert ends[one].accepted == stats.accepted  # the head shares the prefix too


def test_media_are_left_out_of_the_head(pair: Pair) -> None:
    """Rows of an image have negative ids; the head's cache has a hole there."""
    clear(pair)
    sequence, drafter = pair.sequences[0], pair.drafter
    assert drafter
    text = [*range(20, 50)]
    prefill(sequence, text)
    drafter.prefilled(sequence, 0)
    rows = np.random.default_rng(1).normal(0, 1, (9, 64)).astype(np.float32)
    pair.target.prefill_rows(0, np.arange(30, 39, dtype=np.int32), rows, causal=True)
    sequence.append([-1 - i for i in range(9)], 0)
    drafter.prefilled(sequence, 30)
    logits = pair.target.prefill([(0, 39, [*range(60, 70)])])
    sequence.append([*range(60, 70)], 0)
    drafter.prefilled(sequence, 39)
    slot = DraftSlot(sequence, Greedy(), policy := FixedPolicy(3), int(logits[0].argmax()))
    policy.begin_round(3, RoundPlan())
    drafter.propose([slot])
    assert len(slot.draft.tokens) == 3
    accepted, _ = slot.sampler.accept(sequence.verify(slot.pending, slot.draft.tokens), slot.draft)
    sequence.commit(slot.pending, slot.draft.tokens[:accepted], 3)
    drafter.committed(slot, accepted)
    assert min(sequence.tokens) < 0
