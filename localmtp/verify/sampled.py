"""Sampled answers with drafting against the distributions without.

Every token of an answer that was drafted is looked up in the target's own distribution p at its
position, computed afterwards, row by row, without drafting. Two tests say whether the tokens were
drawn from it.

Leaning: at a drafted position, the drafter liked some tokens more than the target does (q > p).
One of them must come out with exactly the probability that p gives them together, as if a coin
with this bias were tossed. Drafts that are kept too often, or replaced wrongly, come out too often,
which the sum over all positions shows (a score test; positions where the outcome is certain weigh
nothing).

Shape: let u be a random point of the token's own interval in the cumulated p, most probable tokens
first. It is uniform if and only if tokens are drawn from p (the probability integral transform,
randomised for discrete distributions; Rosenblatt 1952, Brockwell 2007). Pearson's chi-squared test
says whether it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import erfc, exp, factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Distribution, Sampler, distribution
from localmtp.verify.answers import Recorder, answer

_BINS = 21
"""Of the chi-squared test: an even number of degrees of freedom has a tail in closed form."""

_OPEN = 0.9
"""A token counts for its shape if the most probable one has less than this: where the outcome is
certain, nothing could show. Chosen by p alone, which leaves u uniform."""

_FEWEST_TOSSES = 100
"""With fewer, drafts leaning by a sixth of the tokens that were open would not show."""

_SIGNIFICANCE = 0.001
"""An unchanged output is called changed once in a thousand runs."""

_SEEDS = 8
"""Every prompt is answered at most so many times."""


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """The test's outcome, and what the drafts would have been worth under two rules."""

    tokens: int
    """In all answers."""
    tosses: float
    """Fair coin tosses that the leaning test is worth: 4 times the variance of its sum."""
    leaning: float
    """Standard deviations by which tokens lean towards the drafter."""
    leaning_p: float
    """The probability of as much or more either way."""
    open: int
    """Tokens whose shape was tested."""
    shape_p: float
    """The p-value of the chi-squared test."""
    acceptance: float
    """Expected per draft token judged, with speculative sampling: the mean of sum(min(p, q))."""
    acceptance_if_equal: float
    """The same drafter's when its most probable token is kept only if a token sampled from the
    target equals it, as llama.cpp does it: the mean of p at that token."""

    @property
    def enough(self) -> bool:
        """Whether there were tokens enough to say anything."""
        return self.tosses >= _FEWEST_TOSSES

    @property
    def p_value(self) -> float:
        """Of both tests together, by Bonferroni's correction."""
        return min(1.0, 2 * min(self.leaning_p, self.shape_p))

    @property
    def passed(self) -> bool:
        """Whether no change is seen."""
        return self.enough and self.p_value >= _SIGNIFICANCE

    @property
    def undecided(self) -> bool:
        """Whether no change is seen, in too few tokens to see one."""
        return not self.enough and self.p_value >= _SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How much is sampled, and how."""

    sampling: SamplingParams
    lengths: Sequence[int | None]
    """Draft lengths, taken in turn; None is automatic pacing."""
    max_tokens: int
    tosses: float
    """When the leaning test is worth so many fair coin tosses, it ends."""


def check_sampled(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    plan: SamplingPlan,
    make_sampler: Callable[[SamplingParams], Sampler],
) -> SampledAnswers:
    """Sample answers with drafting until there are enough tokens to judge.

    Args:
        pair: loaded.
        prompts: token ids.
        plan: how much, and how.
        make_sampler: what the session makes its samplers with.
    """
    found = _Evidence(np.random.default_rng(plan.sampling.seed))
    loop = pair.decode_loop()
    for turn, (_, prompt) in enumerate(product(range(_SEEDS), prompts)):
        if 4 * found.variance >= plan.tosses:
            break
        sampling = replace(plan.sampling, seed=(plan.sampling.seed or 0) + turn)
        recorder = Recorder(make_sampler(sampling))
        n_draft = plan.lengths[turn % len(plan.lengths)]
        drafted = answer(loop, prompt, recorder, plan.sampling, n_draft, plan.max_tokens)
        plain = _plain_distributions(pair, prompt, drafted, sampling)
        for token, p, q in zip(drafted, plain, recorder.offers, strict=False):
            found.add(token, p, q)
    return found.answers()


class _Evidence:
    """What the tokens seen so far add up to."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._tokens = 0
        self._excess = 0.0
        self.variance = 0.0
        self._places: list[float] = []
        self._kept: list[float] = []
        self._kept_if_equal: list[float] = []

    def add(self, token: int, p: Distribution, q: Distribution | None) -> None:
        """Count a token that should be drawn from p, where q was drafted from, if anything was."""
        self._tokens += 1
        if p.probs[0] < _OPEN:
            self._places.append(_place(token, p, self._random.random()))
        if q is None:
            return
        probs, offered = np.array(p.probs), _at(q, p)
        preferred = float(probs[offered > probs].sum())
        self._excess += (q.of(token) > p.of(token)) - preferred
        self.variance += preferred * (1 - preferred)
        self._kept.append(p.overlap(q))
        self._kept_if_equal.append(p.of(q.ids[0]))

    def answers(self) -> SampledAnswers:
        """The tests' outcome."""
        deviations = self._excess / sqrt(self.variance) if self.variance else 0.0
        return SampledAnswers(
            tokens=self._tokens,
            tosses=4 * self.variance,
            leaning=deviations,
            leaning_p=erfc(abs(deviations) / sqrt(2)),
            open=len(self._places),
            shape_p=uniformity(self._places),
            acceptance=float(np.mean(self._kept)) if self._kept else 0.0,
            acceptance_if_equal=float(np.mean(self._kept_if_equal)) if self._kept else 0.0,
        )


def uniformity(places: Sequence[float]) -> float:
    """The p-value of Pearson's chi-squared test that numbers in 0..1 are uniform; 1 for none.

    The tail of an even number 2k of degrees of freedom is exp(-x/2) * sum((x/2)^i / i!, i < k)
    (DLMF 8.4.10).
    """
    if not places:
        return 1.0
    counts, _ = np.histogram(places, bins=_BINS, range=(0.0, 1.0))
    expected = len(places) / _BINS
    half = float(((counts - expected) ** 2).sum() / expected) / 2
    return exp(-half) * sum(half**i / factorial(i) for i in range((_BINS - 1) // 2))


def _plain_distributions(
    pair: Pair, prompt: Sequence[int], tokens: Sequence[int], sampling: SamplingParams
) -> list[Distribution]:
    """The target's distribution for each token, decoded row by row."""
    sequence = pair.sequences[0]
    found = [distribution(prefill(sequence, prompt)[0], sampling)]
    for token in tokens[:-1]:
        found.append(distribution(sequence.verify(token)[0], sampling))
        sequence.commit(token, (), 0)
    return found


def _at(q: Distribution, p: Distribution) -> NDArray[np.float64]:
    """Probabilities that q gives to the tokens of p."""
    probs = q.by_id()
    return np.array([probs.get(token, 0.0) for token in p.ids])


def _place(token: int, p: Distribution, within: float) -> float:
    """u: where the token lies in the cumulated p; at its end if p excludes it."""
    if token not in p.ids:
        return 1.0
    found = p.ids.index(token)
    return sum(p.probs[:found]) + within * p.probs[found]
