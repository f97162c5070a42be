"""Penalties change what the target says; drafting does not change it further."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.events import Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import Draft
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.sampling.truncation import distribution
from localmtp.models import resolve
from tests.engine.near_ties import ROUNDING

PENALTIES = SamplingParams(repeat_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3)
PROMPT = (4, 7, 7)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    with Pair.load(files.target, files.drafter, LoadOptions(threads=1, context=512)) as loaded:
        yield loaded


def penalized(logits: np.ndarray, sampling: SamplingParams, answer: Sequence[int]) -> np.ndarray:
    """One row, each penalty written out."""
    row = logits.astype(np.float64)
    for token in {*PROMPT, *answer}:
        row[token] *= 1 / 1.3 if row[token] > 0 else 1.3
    for token in set(answer):
        row[token] -= 0.4 + 0.3 * list(answer).count(token)
    for token, bias in sampling.logit_bias:
        row[token] += bias
    return row.astype(np.float32)


@pytest.mark.parametrize("rule", AcceptanceRule)
def test_tokens_are_distributed_as_the_penalized_target_says(rule: AcceptanceRule) -> None:
    """Of two tokens, the second: its penalties depend on the first, drafted or not."""
    random = np.random.default_rng(3)
    target = random.normal(0, 1.0, (3, 12)).astype(np.float32)
    drafter = target[:2] + random.normal(0, 0.7, (2, 12)).astype(np.float32)
    before = target.copy()
    sampling = replace(PENALTIES, acceptance=rule, top_p=0.98, logit_bias=((3, 0.8), (5, -2.0)))
    rounds = 6000
    counts = np.zeros((12, 12))
    for seed in range(rounds):
        sampler = make_sampler(replace(sampling, seed=seed), PROMPT)
        draft = Draft()
        for row in drafter:
            sampler.draw(sampler.propose(row.copy()), draft)
        accepted, next_token = sampler.accept(target, draft)
        tokens = [*draft.tokens[:accepted], next_token]
        if len(tokens) == 1:
            # As if row 1 had followed it: the second token from a pass of its own.
            _, second = sampler.accept(target[1:2], Draft())
            tokens.append(second)
        counts[tokens[0], tokens[1]] += 1
    np.testing.assert_array_equal(target, before)
    expected = np.zeros((12, 12))
    first = distribution(penalized(target[0], sampling, ()), sampling)
    for one, p in zip(first.ids, first.probs, strict=True):
        second_p = distribution(penalized(target[1], sampling, (one,)), sampling)
        for other, q in zip(second_p.ids, second_p.probs, strict=True):
            expected[one, other] = p * q * rounds
    assert counts[expected == 0].sum() == 0
    usual = expected >= 5
    statistic = (((counts - expected) ** 2)[usual] / expected[usual]).sum()
    degrees = usual.sum() - 1
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)


def test_penalties_of_a_long_answer_with_drafts_that_are_rejected() -> None:
    """Each token is the argmax of a row whose penalties are written out."""
    random = np.random.default_rng(5)
    outside = ((2, 1.0), (90_000, 5.0))
    sampling = replace(PENALTIES, temperature=0.0, logit_bias=outside)
    sampler, answer = make_sampler(sampling, PROMPT), list[int]()
    for _ in range(150):
        target = random.normal(0, 1.0, (4, 3000)).astype(np.float32)
        before, draft = target.copy(), Draft()
        for i in range(3):
            drafter = target[i] if random.random() < 0.7 else target[i, :2500][::-1]
            sampler.draw(sampler.propose(drafter), draft)
        accepted, next_token = sampler.accept(target, draft)
        np.testing.assert_array_equal(target, before)
        for row, token in zip(target, (*draft.tokens[:accepted], next_token), strict=False):
            recent = [*PROMPT, *answer][-64:]
            plain = row.astype(np.float64)
            for i in {*recent}:
                plain[i] *= 1 / 1.3 if plain[i] > 0 else 1.3
            for i in {*answer}:
                plain[i] -= 0.4 + 0.3 * answer.count(i)
            plain[2] += 1.0
            assert token == int(plain.astype(np.float32).argmax())
            answer.append(token)
    assert len({*answer}) > 256


@pytest.mark.parametrize("temperature", [0.0, 1.2])
@pytest.mark.parametrize("n_draft", [1, 4, None])
def test_drafting_does_not_change_a_penalized_answer(
    pair: Pair, n_draft: int | None, temperature: float
) -> None:
    vocab, loop = pair.target.vocab, pair.decode_loop()
    text = "<|turn>user\nCount from 1 to 60.<turn|>\n<|turn>model\n"
    prompt = [vocab.bos, *vocab.tokenize(text, special=True)]
    sampling = replace(PENALTIES, temperature=temperature, seed=2)

    def answer(n: int | None, sampling: SamplingParams) -> list[int]:
        events = loop.run(GenerationRequest(prompt, sampling, n, max_tokens=60))
        return [p.token_id for e in events if isinstance(e, Generated) for p in e.pieces]

    plain, drafted = answer(0, sampling), answer(n_draft, sampling)
    assert plain != answer(0, SamplingParams(temperature, seed=2))
    at = next((i for i, (a, b) in enumerate(zip(plain, drafted, strict=False)) if a != b), None)
    if at is not None:
        logits = prefill(pair.sequences[0], [*prompt, *plain[:at]])[0]
        assert abs(logits[plain[at]] - logits[drafted[at]]) < 4 * ROUNDING
