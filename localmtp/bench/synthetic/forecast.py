"""From what rounds cost and how often drafts are accepted to tokens per second."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from itertools import accumulate
from operator import mul

import numpy as np

from localmtp.bench.synthetic.survey import Costs
from localmtp.engine.pacing import AutoPacing

_CONCENTRATION = 1.5
"""How much a drafter's confidence varies around its mean: alpha + beta of a beta distribution. On
nano's workloads it was 0.5 to 3.9 at most positions, in the middle 1.5 to 2, and tokens of a
given confidence were accepted about as often as it said."""

_ROUNDS = 4000
"""Of simulated pacing: within one percent of what more would give."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a workload at one draft length."""

    workload: str
    n_draft: int | None
    tokens_per_s: float
    tokens_per_pass: float
    draft_length: float
    """Mean."""
    acceptance_rate: float


def published() -> Mapping[str, Sequence[float]]:
    """Shares of drafts accepted at each position, by workload."""
    found = tomllib.loads((resources(__package__) / "published.toml").read_text("utf-8"))
    return {name: tuple(entry["shares"]) for name, entry in found.items()}


def forecast(costs: Costs, workload: str, shares: Sequence[float], n_draft: int | None) -> Forecast:
    """Expect a speed.

    Args:
        costs: of rounds, up to the longest draft that can occur.
        workload: a name for the text.
        shares: of drafts accepted at each position, as `bench` reports them; further positions
            go on as the last two do.
        n_draft: the draft length; None for automatic pacing.
    """
    longest = len(costs.verify_s) - 1
    chances = _chances(shares, longest)
    if n_draft is None:
        return _paced(costs, workload, chances)
    reached = list(accumulate(chances[:n_draft], mul))
    tokens = 1 + sum(reached)
    return Forecast(
        workload,
        n_draft,
        tokens / costs.round_s(n_draft),
        tokens,
        n_draft,
        sum(reached) / n_draft if n_draft else 0.0,
    )


def _chances(shares: Sequence[float], length: int) -> list[float]:
    """The probability that a draft token is accepted if all before it were, by position."""
    before = (1.0, *shares)
    chances = [share / b if b else 0.0 for share, b in zip(shares, before, strict=False)]
    return (chances + chances[-1:] * length)[:length]


def _paced(costs: Costs, workload: str, chances: Sequence[float]) -> Forecast:
    """Let the engine's own pacing work on measured costs and drawn confidences."""
    random, pacing = np.random.default_rng(0), AutoPacing()
    seconds = tokens = accepted_in_all = drafted = 0.0
    for _ in range(_ROUNDS):
        pacing.begin(len(chances))
        confidences: list[float] = []
        steps = 0
        while pacing.go_on():
            mean = _CONCENTRATION * chances[steps]
            confidence = float(random.beta(mean + 1e-9, _CONCENTRATION - mean + 1e-9))
            steps += 1
            if not pacing.keep(confidence):
                break
            confidences.append(confidence)
        length = len(confidences)
        hits = (random.random() < confidence for confidence in confidences)
        accepted = next((i for i, hit in enumerate(hits) if not hit), length)
        pacing.settle(accepted, costs.draft_s[steps], costs.verify_s[length])
        seconds += costs.draft_s[steps] + costs.verify_s[length] + costs.rest_s[length]
        tokens += accepted + 1
        accepted_in_all += accepted
        drafted += length
    return Forecast(
        workload,
        None,
        tokens / seconds,
        tokens / _ROUNDS,
        drafted / _ROUNDS,
        accepted_in_all / drafted if drafted else 0.0,
    )
