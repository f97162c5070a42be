"""Sampling without top-k: distributions of whole vocabularies, against plain arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import NO_DRAFT, Distribution, Draft, ListDistribution
from localmtp.engine.sampling.gumbel import GumbelSampler
from localmtp.engine.sampling.noise import complements, exponential, exponentials
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.sampling.penalties import PenalizedSampler
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.engine.sampling.truncation import distribution
from localmtp.engine.sampling.whole.dense import DenseDistribution

WHOLE = SamplingParams(top_k=0, top_p=1.0)
NUCLEUS = SamplingParams(top_k=0, top_p=0.9)
MIN_P = SamplingParams(top_k=0, top_p=1.0, min_p=0.01)
VOCABULARY = 1500


def rows(*spreads: float, size: int = VOCABULARY) -> NDArray[np.float32]:
    random = np.random.default_rng(size)
    return np.stack([random.normal(0, spread, size) for spread in spreads]).astype(np.float32)


def plain(p: Distribution) -> NDArray[np.float64]:
    found = np.zeros(VOCABULARY)
    found[list(p.ids)] = p.probs
    return found


def chi_squared(counts: NDArray[np.float64], p: NDArray[np.float64]) -> float:
    """Deviation in standard deviations of the statistic, over 40 groups of tokens."""
    assert counts[p == 0].sum() == 0
    groups = np.arange(p.size) % 40
    observed = np.bincount(groups, counts, 40)
    expected = np.bincount(groups, p, 40) * counts.sum()
    statistic = ((observed - expected) ** 2 / expected).sum()
    return float((statistic - 39) / np.sqrt(2 * 39))


@pytest.mark.parametrize("kinds", [(1.0, 1.0), (1.0, 6.0), (6.0, 1.0)])
def test_residual_and_overlap_of_lists_and_arrays(kinds: tuple[float, float]) -> None:
    p, q = (distribution(row, NUCLEUS) for row in rows(*kinds))
    lists = tuple(spread > 1 for spread in kinds)
    assert (isinstance(p, ListDistribution), isinstance(q, ListDistribution)) == lists
    of_p, of_q = plain(p), plain(q)
    assert p.overlap(q) == pytest.approx(np.minimum(of_p, of_q).sum(), rel=1e-5)
    rest = np.maximum(0.0, of_p - of_q)
    np.testing.assert_allclose(plain(p.minus(q)), rest / rest.sum(), atol=1e-7)
    assert p.minus(p) is p
    assert q.of_all([3, 8]) == pytest.approx([q.of(3), q.of(8)])
    assert (p.first, p.confidence) == (p.ids[0], p.probs[0])


def test_a_smaller_vocabulary_of_the_drafter() -> None:
    (target,) = rows(1.0, size=2000)
    p, q = distribution(target, WHOLE), distribution(target[:900], WHOLE)
    inside = np.minimum([p.of(i) for i in range(900)], [q.of(i) for i in range(900)])
    assert p.overlap(q) == pytest.approx(inside.sum(), rel=1e-5)
    assert q.of(1999) == 0.0
    assert p.minus(q).of(1999) > p.of(1999)


def test_tokens_partition_the_cumulative_weights() -> None:
    weights = np.zeros(1536, np.float32)
    weights[[5, 600, 601, 1400]] = 1.0, 2.0, 1.0, 4.0
    spread = DenseDistribution(weights, 1400)
    drawn = [spread.at(place / 16) for place in (0, 1, 2, 5, 6, 7, 8, 15, 16)]
    assert drawn == [5, 5, 600, 600, 601, 601, 1400, 1400, 1400]


@pytest.mark.parametrize("rule", [AcceptanceRule.MAXIMAL, AcceptanceRule.GUMBEL])
@pytest.mark.parametrize("drafter", [WHOLE, SamplingParams(top_k=20), None])
@pytest.mark.parametrize("sampling", [WHOLE, NUCLEUS, MIN_P, replace(WHOLE, temperature=0.6)])
def test_drafts_leave_the_targets_distribution(
    sampling: SamplingParams, drafter: SamplingParams | None, rule: AcceptanceRule
) -> None:
    """The drafter truncates as the target does, in another way, or drafts nothing."""
    target, other = rows(1.2, 1.2)
    drafted = (0.7 * target + 0.6 * other).astype(np.float32)
    verified = np.stack([target, target])
    counts = np.zeros(VOCABULARY)
    for seed in range(1200):
        sampler, draft = make_sampler(replace(sampling, seed=seed, acceptance=rule)), NO_DRAFT
        if drafter:
            draft = Draft()
            from_q = sampler.propose(drafted)
            if drafter is not WHOLE:
                from_q.distribution = distribution(drafted, drafter)
            sampler.draw(from_q, draft)
        accepted, next_token = sampler.accept(verified if drafter else verified[:1], draft)
        counts[draft.tokens[0] if accepted else next_token] += 1
    assert chi_squared(counts, plain(distribution(target, sampling))) < 4


def test_drafts_of_an_equal_drafter_are_always_accepted() -> None:
    (target,) = rows(1.0)
    for rule in (AcceptanceRule.MAXIMAL, AcceptanceRule.GUMBEL):
        sampler = make_sampler(replace(WHOLE, seed=3, acceptance=rule))
        for _ in range(100):
            draft = Draft()
            for _ in range(3):
                sampler.draw(sampler.propose(target), draft)
            assert sampler.accept(np.stack([target] * 4), draft)[0] == 3


@pytest.mark.parametrize("size", [300, VOCABULARY, 151_936])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("sampling", [WHOLE, NUCLEUS, replace(WHOLE, temperature=0.2)])
def test_a_seed_chooses_the_largest_ratio_of_all(
    sampling: SamplingParams, spread: float, size: int
) -> None:
    """As argmax(p / noise) over the whole vocabulary in 64 bits does."""
    (logits,) = rows(spread, size=size)
    logits[::5] = -np.inf
    p = np.exp((logits.astype(np.float64) - logits.max()) / sampling.temperature)
    order = (-p).argsort(kind="stable")
    p[order[np.searchsorted(p[order].cumsum(), sampling.top_p * p.sum()) + 1 :]] = 0.0
    sampler = GumbelSampler(replace(sampling, seed=7), position=20)
    for position in range(20, 26):
        noise = exponentials(sampler._position_key(position), np.arange(size))
        draft = Draft()
        sampler.draw(sampler.propose(logits), draft)
        assert sampler.accept(logits[None], NO_DRAFT) == (0, int((p / noise).argmax()))
        assert draft.tokens == [int((p / noise).argmax())]


def test_bounds_of_the_noise() -> None:
    key = 1 << 63 | 12345
    noise, bounds = exponentials(key, np.arange(40_000)), complements(key, 40_000) * 2.0**-53
    assert (bounds <= noise * (1 + 1e-6)).all()
    small = noise < 1e-3
    np.testing.assert_allclose(bounds[small], noise[small], rtol=1e-3)
    assert exponential(key, range(100)) == noise[:100].tolist()


@pytest.mark.parametrize("rule", [AcceptanceRule.MAXIMAL, AcceptanceRule.GUMBEL])
def test_masked_and_penalized_tokens(rule: AcceptanceRule) -> None:
    (logits,) = rows(1.0)
    masked = np.arange(VOCABULARY) % 3 > 0
    logits[masked] = -np.inf
    sampling = replace(WHOLE, seed=5, acceptance=rule, logit_bias=((6, 8.0), (9, -100.0)))
    sampler: Sampler = make_sampler(sampling)
    assert isinstance(sampler, PenalizedSampler)
    drawn = []
    for _ in range(300):
        draft = Draft()
        sampler.draw(sampler.propose(logits), draft)
        accepted, token = sampler.accept(np.stack([logits, logits]), draft)
        drawn += [*draft.tokens[:accepted], token]
    assert not masked[drawn].any()
    assert 9 not in drawn
    odds = np.exp(logits[6] + 8.0) / (np.exp(logits[6] + 8.0) + np.exp(logits).sum())
    assert drawn.count(6) / len(drawn) == pytest.approx(odds, abs=0.08)
