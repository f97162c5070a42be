"""A seed decides a sampled answer: drafts, batches and interruptions do not change it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import Prefill, Prefiller, prefill
from localmtp.engine.events import Generated
from localmtp.engine.llama import Floats
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import NO_DRAFT, Draft
from localmtp.engine.sampling.gumbel import GumbelSampler
from localmtp.engine.sampling.noise import exponential
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.sampling.truncation import distribution
from localmtp.models import resolve
from tests.engine.near_ties import ROUNDING

HOT = SamplingParams(temperature=1.5, seed=11)
WHOLE = SamplingParams(temperature=1.1, top_k=0, top_p=1.0, seed=11)
QUESTIONS = (
    "Tell me a story about a fox.",
    "Tell me a long story about a king.",
    "Write a Python function that adds two numbers.",
    "Count from 1 to 20.",
)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=512, parallel=4)
    with Pair.load(files.target, files.drafter, options) as loaded:
        yield loaded


def prompt_of(pair: Pair, question: str) -> list[int]:
    vocab = pair.target.vocab
    text = f"<|turn>user\n{question}<turn|>\n<|turn>model\n"
    return [vocab.bos, *vocab.tokenize(text, special=True)]


def answers(loop: DecodeLoop, requests: Sequence[GenerationRequest]) -> list[list[int]]:
    """Tokens of requests that are decoded together."""
    tokens: dict[object, list[int]] = {loop.start(request): [] for request in requests}
    while loop.active:
        for generation, output in loop.step():
            if isinstance(output, Generated):
                tokens[generation] += [piece.token_id for piece in output.pieces]
    return list(tokens.values())


def assert_same(
    pair: Pair, prompt: Sequence[int], sampling: SamplingParams, one: list[int], other: list[int]
) -> None:
    """Fails where two answers differ at a token that rounding cannot have decided."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None:
        assert len(one) == len(other)
        return
    before = [*prompt, *one[:at]]
    logits = prefill(pair.sequences[0], before)[0]
    assert GumbelSampler(sampling, len(before)).margin(logits, one[at], other[at]) < ROUNDING


@pytest.mark.parametrize(
    ("n_draft", "sampling"),
    [(1, HOT), (3, HOT), (8, HOT), (None, HOT), (3, WHOLE), (2, replace(WHOLE, top_p=0.97))],
)
def test_drafting_does_not_change_the_answer_of_a_seed(
    pair: Pair, n_draft: int | None, sampling: SamplingParams
) -> None:
    loop = pair.decode_loop()
    for question in QUESTIONS:
        prompt = prompt_of(pair, question)
        ((plain,), (drafted,)) = (
            answers(loop, [GenerationRequest(prompt, sampling, n, max_tokens=60)])
            for n in (0, n_draft)
        )
        assert_same(pair, prompt, sampling, plain, drafted)


def test_a_batch_does_not_change_the_answer_of_a_seed(pair: Pair) -> None:
    loop = pair.decode_loop()
    requests = [
        GenerationRequest(prompt_of(pair, question), HOT, n_draft, max_tokens=60)
        for question, n_draft in zip(QUESTIONS, (None, 3, 0, None), strict=True)
    ]
    together = answers(loop, requests)
    for request, found in zip(requests, together, strict=True):
        (alone,) = answers(loop, [replace_draft(request, 0)])
        assert_same(pair, request.prompt, HOT, alone, found)


def replace_draft(request: GenerationRequest, n_draft: int) -> GenerationRequest:
    return GenerationRequest(request.prompt, request.sampling, n_draft, request.max_tokens)


def test_a_resumed_answer_continues_as_if_it_had_not_been_cut(pair: Pair) -> None:
    loop, prompt = pair.decode_loop(), prompt_of(pair, QUESTIONS[1])
    (whole,) = answers(loop, [GenerationRequest(prompt, HOT, 3, max_tokens=40)])
    (begun,) = answers(loop, [GenerationRequest(prompt, HOT, 2, max_tokens=15)])
    (rest,) = answers(loop, [GenerationRequest([*prompt, *begun], HOT, None, max_tokens=25)])
    assert_same(pair, prompt, HOT, whole, [*begun, *rest])


def test_other_seeds_give_other_answers(pair: Pair) -> None:
    loop, prompt = pair.decode_loop(), prompt_of(pair, QUESTIONS[0])
    found = [
        answers(loop, [GenerationRequest(prompt, replace(HOT, seed=seed), 0, max_tokens=40)])[0]
        for seed in range(4)
    ]
    assert len({tuple(tokens) for tokens in found}) > 1


def test_without_a_seed_the_rule_that_accepts_most_is_used() -> None:
    assert not SamplingParams().shares_noise
    assert SamplingParams(seed=0).shares_noise
    assert not SamplingParams(seed=0, acceptance=AcceptanceRule.MAXIMAL).shares_noise
    assert SamplingParams(acceptance=AcceptanceRule.GUMBEL).shares_noise


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("top_k", [8, 40, 0])
def test_tokens_are_distributed_as_the_target_says(top_k: int, drafted: bool) -> None:
    """Pearson's chi-squared test over seeds, for one position, whatever is drafted for it."""
    random = np.random.default_rng(5)
    target = random.normal(0, 1.5, (2, 50)).astype(np.float32)
    drafter = (target[0] + random.normal(0, 1, 50)).astype(np.float32)
    sampling = SamplingParams(1.0, top_k=top_k, top_p=0.95)
    p = distribution(target[0], sampling)
    counts = dict.fromkeys(p.ids, 0)
    rounds = 4000
    for seed in range(rounds):
        sampler = GumbelSampler(replace(sampling, seed=seed), position=3)
        draft = NO_DRAFT
        if drafted:
            draft = Draft()
            sampler.draw(sampler.propose(drafter), draft)
        accepted, next_token = sampler.accept(target, draft)
        counts[draft.tokens[0] if accepted else next_token] += 1
    expected = np.array(p.probs) * rounds
    observed = np.array([counts[i] for i in p.ids])
    usual = expected >= 5
    statistic = (((observed - expected) ** 2) / expected)[usual].sum()
    degrees = usual.sum() - 1
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)


def test_noise_of_few_and_of_many_candidates_is_the_same() -> None:
    ids = list(range(7, 2000, 13))
    many = exponential(1 << 63 | 12345, ids)
    few = [exponential(1 << 63 | 12345, [i])[0] for i in ids]
    np.testing.assert_allclose(many, few, rtol=1e-12)
    assert 0.8 < float(np.mean(many)) < 1.25


def test_neighbouring_positions_and_tokens_are_independent() -> None:
    keys = [GumbelSampler(SamplingParams(seed=1), 0)._position_key(i) for i in range(4000)]
    one = np.log([exponential(key, [5])[0] for key in keys])
    other = np.log([exponential(key, [6])[0] for key in keys])
    for a, b in ((one[1:], one[:-1]), (one, other)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_the_margin_of_a_token_that_top_p_barely_excludes_is_small() -> None:
    probs = np.array([0.6, 0.351, 0.03, 0.019])
    logits = np.log(probs).astype(np.float32)
    sampler = GumbelSampler(SamplingParams(seed=1, top_k=4, top_p=0.95), 0)
    assert sampler.margin(logits, 0, 2) < 0.03  # 0.951 before it, and 2.5 below the next
    assert sampler.margin(logits, 0, 3) > 0.5  # 0.981 before it


def test_the_margin_of_a_token_that_top_p_barely_includes_is_small() -> None:
    probs = np.array([0.6, 0.349, 0.03, 0.021])
    logits = np.log(probs).astype(np.float32)

    def sampler(seed: int) -> GumbelSampler:
        return GumbelSampler(SamplingParams(seed=seed, top_k=4, top_p=0.95), 0)

    seeds = [seed for seed in range(400) if sampler(seed).accept(logits[None], NO_DRAFT)[1] == 2]
    gaps = [sampler(seed).margin(logits, 0, 2) for seed in seeds]
    # 0.949 before it: where excluding it leaves token 0, that is the margin.
    assert len(gaps) > 4
    assert sum(gap < 0.03 for gap in gaps) > len(gaps) // 3


def test_parts_of_a_prompt_are_whole_tiles_at_any_speed(pair: Pair) -> None:
    prompt = [pair.target.vocab.bos, *[300 + i % 200 for i in range(399)]]
    for rows in (128, 130, 150, 200, 260, 300, 390, 399):
        pair.sequences[0].clear()
        found = Prefill(pair.sequences[0], prompt)
        sizes = []
        while found.remaining:
            part = found.part(rows, 512)
            sizes.append(len(part))
            found.done += len(part)
        assert sum(sizes) == len(prompt)
        assert min(sizes) >= 64


def test_short_prompts_that_share_passes_have_the_bits_of_prompts_alone(pair: Pair) -> None:
    prompts = [[pair.target.vocab.bos, *range(300, 300 + n)] for n in (20, 41, 60, 150)]
    alone = []
    for prompt in prompts:
        pair.sequences[0].clear()
        alone.append(prefill(pair.sequences[0], prompt)[0].copy())
    for sequence in pair.sequences:
        sequence.clear()
    waiting = [Prefill(*one) for one in zip(pair.sequences, prompts, strict=True)]
    found: dict[Prefill, Floats] = {}
    prefiller = Prefiller(pair.target)
    while unfinished := [one for one in waiting if one.remaining]:
        found.update((one, logits[0].copy()) for one, logits in prefiller.step(unfinished))
    for one, expected in zip(waiting[:3], alone, strict=False):
        np.testing.assert_array_equal(found[one], expected)
    np.testing.assert_allclose(found[waiting[3]], alone[3], atol=ROUNDING)
