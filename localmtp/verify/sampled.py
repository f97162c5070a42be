"""Tests answers sampled with drafting against the target's distributions.

The target's distribution p at every position is computed afterwards, row by row, without drafting.
Two tests decide whether the tokens were drawn from it.

Leaning: at a drafted position, the drafter prefers some tokens more than the target does (q > p).
One of them must occur with exactly the probability that p gives them together, like the toss of a
coin with this bias. If drafts are accepted too often or replaced wrongly, these tokens occur too
often, which shows in the sum over all positions (a score test; positions with a certain outcome
have no weight).

Shape: let u be a random point of the token's interval in the cumulative p, most probable tokens
first. It is uniform if and only if tokens are drawn from p (the probability integral transform,
randomized for discrete distributions; Rosenblatt 1952, Brockwell 2007). Pearson's chi-squared test
checks this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import erfc, exp, factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.llama import Floats
from localmtp.engine.media import PlacedMedia
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.distribution import Distribution
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.sampling.sampler import Sampler
from localmtp.engine.sampling.truncation import distribution
from localmtp.verify.answers import RecordingSampler, answer
from localmtp.verify.time_limit import Stage

_BINS = 21
"""Bins of the chi-squared test: an even number of degrees of freedom has a closed-form tail."""

_OPEN = 0.9
"""The shape test uses positions where the most probable token has less than this probability: a
nearly certain outcome is no evidence. The choice depends on p alone, so u stays uniform."""

_FEWEST_TOSSES = 100
"""Minimum of coin tosses: fewer would not show a bias of a sixth of the open positions."""

_SIGNIFICANCE = 0.001
"""False alarm rate: one in a thousand runs of an unchanged output."""

_SEEDS = 8
"""Maximum number of answers per prompt."""


@dataclass(frozen=True, slots=True)
class SampledCheck:
    """Result of the tests, and the acceptance rates of two exact sampling rules."""

    tokens: int
    """Number of tokens in all answers."""
    tosses: float
    """Weight of the leaning test in fair coin tosses: 4 times the variance of its sum."""
    leaning: float
    """Bias of the tokens towards the drafter, in standard deviations."""
    leaning_p: float
    """Two-sided p-value of the leaning test."""
    open: int
    """Number of positions of the shape test."""
    shape_p: float
    """P-value of the chi-squared test."""
    acceptance: float
    """Expected acceptance rate of speculative sampling: the mean of sum(min(p, q))."""
    acceptance_if_equal: float
    """Expected acceptance rate when the drafter's most probable token is accepted only if a token
    sampled from the target equals it, as in llama.cpp: the mean of p at that token."""

    @property
    def enough(self) -> bool:
        """Whether there were enough tokens for a verdict."""
        return self.tosses >= _FEWEST_TOSSES

    @property
    def p_value(self) -> float:
        """P-value of both tests together, by Bonferroni's correction."""
        return min(1.0, 2 * min(self.leaning_p, self.shape_p))

    @property
    def passed(self) -> bool:
        """Whether enough tokens show no change."""
        return self.enough and self.p_value >= _SIGNIFICANCE

    @property
    def undecided(self) -> bool:
        """Whether there is no sign of a change, but too few tokens for a verdict."""
        return not self.enough and self.p_value >= _SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Sampling settings and the amount of evidence to collect."""

    sampling: SamplingParams
    lengths: Sequence[int | None]
    """Draft lengths, used in turn; None is automatic pacing."""
    max_tokens: int
    tosses: float
    """Stop when the leaning test has the weight of this number of fair coin tosses."""


def check_sampled(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    plan: SamplingPlan,
    make_sampler: Callable[[SamplingParams], Sampler],
    *,
    media: Sequence[PlacedMedia] = (),
    stage: Stage | None = None,
) -> SampledCheck:
    """Sample answers with drafting until there are enough tokens for a verdict.

    The weight of the tokens and the time decide when to stop, after a complete answer; the tests'
    own sums do not.

    Args:
        pair: loaded.
        prompts: token ids.
        plan: sampling settings and amount.
        make_sampler: the session's factory of samplers.
        media: images and sounds whose rows every prompt has.
        stage: limits the time; None for no limit.
    """
    found = _Evidence(np.random.default_rng(plan.sampling.seed))
    loop = pair.decode_loop()
    answers = [prompt for _ in range(_SEEDS) for prompt in prompts]
    stage = stage or Stage()
    with stage.until_interrupted():
        for turn, prompt in enumerate(stage.each(answers)):
            if 4 * found.variance >= plan.tosses:
                break
            sampling = replace(
                plan.sampling,
                seed=(plan.sampling.seed or 0) + turn,
                acceptance=AcceptanceRule.MAXIMAL,
            )
            recorder = RecordingSampler(make_sampler(sampling))
            n_draft = plan.lengths[turn % len(plan.lengths)]
            drafted = answer(
                loop, prompt, recorder, plan.sampling, n_draft, plan.max_tokens, media=media
            )
            first = prefill(pair.sequences[0], prompt, media)[0]
            plain = _plain_distributions(pair, first, drafted, sampling)
            for token, p, q in zip(drafted, plain, recorder.offers, strict=False):
                found.add(token, p, q)
    return found.answers()


class _Evidence:
    """Running sums over the tokens so far."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._tokens = 0
        self._excess = 0.0
        self.variance = 0.0
        self._uniforms: list[float] = []
        self._accepted: list[float] = []
        self._accepted_if_equal: list[float] = []

    def add(self, token: int, p: Distribution, q: Distribution | None) -> None:
        """Count a token.

        Args:
            token: the sampled token.
            p: the distribution it should be drawn from.
            q: the distribution that a draft was drawn from; None if there was no draft.
        """
        self._tokens += 1
        if p.confidence < _OPEN:
            self._uniforms.append(_cumulative(token, p, self._random.random()))
        if q is None:
            return
        probs, offered = np.array(p.probs), _at(q, p)
        preferred = float(probs[offered > probs].sum())
        self._excess += (q.of(token) > p.of(token)) - preferred
        self.variance += preferred * (1 - preferred)
        self._accepted.append(p.overlap(q))
        self._accepted_if_equal.append(p.of(q.first))

    def answers(self) -> SampledCheck:
        """Return the result of the tests."""
        deviations = self._excess / sqrt(self.variance) if self.variance else 0.0
        return SampledCheck(
            tokens=self._tokens,
            tosses=4 * self.variance,
            leaning=deviations,
            leaning_p=erfc(abs(deviations) / sqrt(2)),
            open=len(self._uniforms),
            shape_p=uniformity(self._uniforms),
            acceptance=float(np.mean(self._accepted)) if self._accepted else 0.0,
            acceptance_if_equal=float(np.mean(self._accepted_if_equal)) if self._accepted else 0.0,
        )


def uniformity(places: Sequence[float]) -> float:
    """Return the p-value of Pearson's chi-squared test for uniform numbers in 0..1; 1 for none.

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
    pair: Pair, first: Floats, tokens: Sequence[int], sampling: SamplingParams
) -> list[Distribution]:
    """Return the target's distribution at each position, decoded row by row.

    Args:
        pair: its first sequence holds the prompt.
        first: logits after it.
        tokens: of the answer.
        sampling: parameters of the distributions.
    """
    sequence = pair.sequences[0]
    found = [distribution(first, sampling)]
    for token in tokens[:-1]:
        found.append(distribution(sequence.verify(token)[0], sampling))
        sequence.commit(token, (), 0)
    return found


def _at(q: Distribution, p: Distribution) -> NDArray[np.float64]:
    """Return the probabilities under q of the tokens of p."""
    return np.array(q.of_all(p.ids))


def _cumulative(token: int, p: Distribution, within: float) -> float:
    """Return u, the token's place in the cumulative p; 1 if p excludes the token."""
    if token not in p.ids:
        return 1.0
    found = p.ids.index(token)
    return sum(p.probs[:found]) + within * p.probs[found]
