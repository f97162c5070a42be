"""Distributions against a plain implementation, and speculative sampling against the target."""

import numpy as np
import pytest
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Draft, ListDistribution
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Greedy
from localmtp.engine.sampling.speculative import SpeculativeSampler
from localmtp.engine.sampling.truncation import Truncation, distribution


def plain_probabilities(
    logits: NDArray[np.float32], sampling: SamplingParams
) -> NDArray[np.float64]:
    """Reference implementation of temperature, top-k, top-p and min-p over the whole vocabulary."""
    probs = np.exp((logits.astype(np.float64) - logits.max()) / sampling.temperature)
    order = np.argsort(-probs, kind="stable")
    if sampling.top_k:
        probs[order[sampling.top_k :]] = 0
    probs /= probs.sum()
    before = np.concatenate([[0.0], probs[order].cumsum()[:-1]])
    probs[order[before >= sampling.top_p]] = 0
    probs[probs < sampling.min_p * probs.max()] = 0
    normalised: NDArray[np.float64] = probs / probs.sum()
    return normalised


@pytest.mark.parametrize("vocabulary", [50, 4096, 262_144, 151_936, 262_145])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.3, top_k=5, top_p=0.7),
        SamplingParams(temperature=1.7, top_k=0, top_p=0.9, min_p=0.02),
        SamplingParams(top_k=1),
        SamplingParams(temperature=1e-40),
        SamplingParams(top_k=600, top_p=1.0, min_p=0.1),
        SamplingParams(temperature=0.8, top_k=0, top_p=0.6),
        SamplingParams(temperature=0.5, top_k=0, top_p=1.0, min_p=0.01),
        SamplingParams(top_k=0, top_p=1.0),
        SamplingParams(temperature=9.0, top_k=0, top_p=0.9, min_p=0.1),
    ],
)
def test_distribution_is_the_truncated_softmax(vocabulary: int, sampling: SamplingParams) -> None:
    logits = np.random.default_rng(vocabulary).normal(0, 3, vocabulary).astype(np.float32)
    found = distribution(logits, sampling)
    dense = np.zeros(vocabulary)
    dense[found.ids] = found.probs
    np.testing.assert_allclose(dense, plain_probabilities(logits, sampling), atol=1e-6)
    assert (np.diff(found.probs) <= 0).all()


def test_one_truncation_serves_vocabularies_of_any_size() -> None:
    """Target and drafter may have vocabularies of different sizes."""
    random = np.random.default_rng(8)
    sampling = SamplingParams()
    truncation = Truncation(sampling)
    for size in (300, 262_144, 40, 5000, 262_144, 300):
        logits = random.normal(0, 3, size).astype(np.float32)
        before = logits.copy()
        assert truncation.of(logits) == distribution(logits, sampling)
        assert (logits == before).all()


def test_tokens_partition_the_cumulative_probabilities() -> None:
    spread = ListDistribution([7, 3, 9, 4], [0.5, 0.0, 0.375, 0.125])
    drawn = [spread.at(place) for place in (0.0, 0.49, 0.5, 0.874, 0.875, 0.99, 1.0)]
    assert drawn == [7, 7, 9, 9, 4, 4, 7]


def test_a_seed_gives_the_same_tokens_again() -> None:
    logits = np.random.default_rng(4).normal(0, 1, (4, 5000)).astype(np.float32)

    def tokens(seed: int) -> list[int]:
        sampler, found = SpeculativeSampler(SamplingParams(seed=seed)), list[int]()
        for _ in range(30):
            draft = Draft()
            for row in logits[:3]:
                sampler.draw(sampler.propose(row[::-1]), draft)
            accepted, next_token = sampler.accept(logits, draft)
            found += [*draft.tokens[:accepted], next_token]
        return found

    assert tokens(1) == tokens(1) != tokens(2)


@pytest.mark.parametrize("vocabulary", [100, 5000, 262_144, 262_147])
def test_greedy_draft_is_the_argmax_wherever_it_lies(vocabulary: int) -> None:
    random = np.random.default_rng(3)
    for at in (0, vocabulary // 3, vocabulary - 1):
        logits = random.normal(0, 1, vocabulary).astype(np.float32)
        logits[at] = 25.0
        proposal = Greedy().propose(logits)
        exact = 1 / np.exp(logits.astype(np.float64) - 25.0).sum()
        assert proposal.token_id == at
        assert proposal.confidence == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("shift", [-90.0, -3.0, 0.0, 40.0])
def test_greedy_verifies_logits_of_any_sign(shift: float) -> None:
    logits = np.random.default_rng(6).normal(shift, 1, (4, 3000)).astype(np.float32)
    logits[:, ::7] = -np.inf
    best = logits.argmax(axis=1).tolist()
    assert Greedy().accept(logits, Draft(best[:3])) == (3, best[3])
    assert Greedy().accept(logits, Draft([best[0], 4, 5])) == (1, best[1])
    assert Greedy().accept(logits[:1], Draft()) == (0, best[0])


def test_the_residual_is_normalized() -> None:
    p = ListDistribution([7, 3, 9], [0.5, 0.3, 0.2])
    q = ListDistribution([3, 7, 1], [0.6, 0.3, 0.1])
    rest = p.minus(q)
    assert rest.of(7) == pytest.approx(0.5)
    assert rest.of(9) == pytest.approx(0.5)
    assert rest.of(3) == 0.0
    assert p.minus(p).probs == p.probs


@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.95, 1.0])
def test_speculative_sampling_leaves_the_targets_distribution(likeness: float) -> None:
    """Pearson's chi-squared over 12 tokens: 11 degrees of freedom, so 31.3 is p = 0.001."""
    random = np.random.default_rng(11)
    target = random.normal(0, 1.5, 12).astype(np.float32)
    drafter = likeness * target + (1 - likeness) * random.normal(0, 1.5, 12).astype(np.float32)
    sampling = SamplingParams(top_k=10, top_p=0.98, seed=5)
    sampler = SpeculativeSampler(sampling)
    expected = plain_probabilities(target, sampling)
    rows = np.stack([target, target])
    draws = 8_000
    counts = np.zeros(12)
    for _ in range(draws):
        draft = Draft()
        sampler.draw(sampler.propose(drafter), draft)
        accepted, next_token = sampler.accept(rows, draft)
        counts[draft.tokens[0] if accepted else next_token] += 1
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    gap = counts[possible] - draws * expected[possible]
    assert (gap**2 / (draws * expected[possible])).sum() < 31.3


def test_the_argmax_of_an_uncertain_drafter_is_drafted() -> None:
    """Its argmax has a target probability of 0.9; the overlap of the distributions is much
    smaller."""
    target = np.array([5.0, 0, 0, 0, 0, 0, 0, 0], np.float32) + np.float32(0.1)
    drafter = np.array([1.5, 1, 1, 1, 1, 1, 1, 1], np.float32)
    sampling = SamplingParams(top_p=1.0, seed=9)
    p, q = distribution(target, sampling), distribution(drafter, sampling)
    assert p.overlap(q) < 0.4 < 0.9 < p.of(0)
    sampler = SpeculativeSampler(sampling)
    rows = np.stack([target, target])
    accepted = 0
    for _ in range(2000):
        draft = Draft()
        sampler.draw(sampler.propose(drafter), draft)
        accepted += sampler.accept(rows, draft)[0]
    assert accepted / 2000 == pytest.approx(p.of(0), abs=0.03)


def test_a_drafter_equal_to_the_target_is_never_rejected() -> None:
    # Flat, so that drawing is accepted more often than always taking the argmax.
    logits = np.random.default_rng(2).normal(0, 0.1, (2, 300)).astype(np.float32)
    logits[1] = logits[0]
    sampler = SpeculativeSampler(SamplingParams(seed=1))
    for _ in range(500):
        draft = Draft()
        sampler.draw(sampler.propose(logits[0]), draft)
        accepted, _ = sampler.accept(logits, draft)
        assert accepted == 1


@pytest.mark.parametrize("vocabulary", [4096, 151_936, 262_144])
def test_masked_tokens_are_never_sampled(vocabulary: int) -> None:
    logits = np.full(vocabulary, -np.inf, np.float32)
    logits[[7, vocabulary - 2]] = 1.0, 2.0
    found = distribution(logits, SamplingParams(top_p=1.0))
    assert found.ids == [vocabulary - 2, 7]
