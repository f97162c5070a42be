"""Sampled answers with drafting against the distributions without.

Every token of an answer that was drafted is looked up in the target's own distribution at its
position, computed afterwards, row by row, without drafting. Let the tokens be ordered by how much
more the drafter liked them than the target (q/p), and let u be a random point of the token's own
interval in the cumulated p. If tokens are drawn from p, and only then, u is uniform, whatever p and
q are (the probability integral transform, randomised for discrete distributions; Rosenblatt 1952,
Brockwell 2007). Any leaning towards the drafter, which is what faults in accepting and in the
residual amount to, crowds u towards 0. Pearson's chi-squared test says whether it is uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import exp, factorial

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.pair import Pair
from localmtp.engine.sampling import Distribution, Sampler, Sampling, distribution
from localmtp.verify.answers import Recorder, answer, pacing_for

_BINS = 21
"""An even number of degrees of freedom gives the chi-squared tail in closed form."""

_FEWEST = 5 * _BINS
"""Pearson's test wants five expected in every bin."""

_CONTESTED = 0.05
"""Least total variation between p and q at a counted position: where they agree, nothing that is
done with them could show. Chosen by p and q alone, which leaves u uniform."""

_SIGNIFICANCE = 0.001
"""An unchanged output is called changed once in a thousand runs."""

_SEEDS = 8
"""Every prompt is answered at most so many times."""


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """The test's outcome, and what the drafts would have been worth under two rules."""

    tokens: int
    """In all answers."""
    contested: int
    """Those that the test counts: drafter and target disagreed about their place."""
    p_value: float
    acceptance: float
    """Expected per draft token judged, with speculative sampling: the mean of sum(min(p, q))."""
    acceptance_if_equal: float
    """The same drafter's when its most probable token is kept only if a token sampled from the
    target equals it, as llama.cpp does it: the mean of p at that token."""

    @property
    def enough(self) -> bool:
        """Whether there were tokens enough to say anything."""
        return self.contested >= _FEWEST

    @property
    def passed(self) -> bool:
        """Whether the test sees no change."""
        return self.enough and self.p_value >= _SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How much is sampled, and how."""

    sampling: Sampling
    lengths: Sequence[int | None]
    """Draft lengths, taken in turn; None is automatic pacing."""
    max_tokens: int
    contested: int
    """Counted tokens after which it ends."""


def check_sampled(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    plan: SamplingPlan,
    make_sampler: Callable[[Sampling], Sampler],
) -> SampledAnswers:
    """Sample answers with drafting until there are enough tokens to judge.

    Args:
        pair: loaded.
        prompts: token ids.
        plan: how much, and how.
        make_sampler: what the session makes its samplers with.
    """
    random = np.random.default_rng(plan.sampling.seed)
    pacings = [pacing_for(n) for n in plan.lengths]
    places: list[float] = []
    kept: list[float] = []
    kept_if_equal: list[float] = []
    tokens = 0
    for turn, (_, prompt) in enumerate(product(range(_SEEDS), prompts)):
        if len(places) >= plan.contested:
            break
        sampling = replace(plan.sampling, seed=(plan.sampling.seed or 0) + turn)
        recorder = Recorder(make_sampler(sampling))
        drafted = answer(pair, prompt, recorder, pacings[turn % len(pacings)], plan.max_tokens)
        tokens += len(drafted)
        plain = _plain_distributions(pair, prompt, drafted, sampling)
        for token, p, q in zip(drafted, plain, recorder.offers, strict=False):
            if q is None:
                continue
            offered = _at(q, p)
            overlap = float(np.minimum(p.probs, offered).sum())
            kept.append(overlap)
            kept_if_equal.append(p.of(int(q.ids[0])))
            if 1 - overlap >= _CONTESTED:
                places.append(_place(token, p, offered, random.random()))
    return SampledAnswers(
        tokens=tokens,
        contested=len(places),
        p_value=uniformity(places),
        acceptance=float(np.mean(kept)) if kept else 0.0,
        acceptance_if_equal=float(np.mean(kept_if_equal)) if kept else 0.0,
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
    pair: Pair, prompt: Sequence[int], tokens: Sequence[int], sampling: Sampling
) -> list[Distribution]:
    """The target's distribution for each token, decoded row by row."""
    target = pair.target
    list(target.prefill(prompt))
    found = [distribution(target.logits()[0], sampling)]
    for token in tokens[:-1]:
        found.append(distribution(target.verify(token, ())[0], sampling))
        target.commit(token, (), 0)
    return found


def _at(q: Distribution, p: Distribution) -> NDArray[np.float64]:
    """Probabilities that q gives to the tokens of p."""
    probs = dict(zip(q.ids.tolist(), q.probs.tolist(), strict=True))
    return np.array([probs.get(token, 0.0) for token in p.ids.tolist()])


def _place(token: int, p: Distribution, offered: NDArray[np.float64], within: float) -> float:
    """u: where the token lies in p, ordered by the drafter's liking; 0 if p excludes it."""
    order = np.argsort(-offered / p.probs, kind="stable")
    (found,) = np.nonzero(p.ids[order] == token)
    if not found.size:
        return 0.0
    probs = p.probs[order]
    return float(probs[: found[0]].sum() + within * probs[found[0]])
