"""Computes tokens per second from the cost of rounds and acceptance rates."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from itertools import accumulate
from operator import mul

import numpy as np

from localmtp.bench.synthetic.survey import RoundCosts
from localmtp.engine.pacing import Calibration, CostModel, Outcome

_CONCENTRATION = 1.5
"""Alpha + beta of the beta distribution of a drafter's confidences around their mean. On nano's
workloads it was 0.5 to 3.9 at most positions, typically 1.5 to 2, and the confidences were about
calibrated."""

_ROUNDS = 4000
"""Simulated rounds of automatic pacing; more change the result by less than one percent."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected speed of a workload at one draft length."""

    workload: str
    n_draft: int | None
    tokens_per_s: float
    tokens_per_pass: float
    draft_length: float
    """Mean number of draft tokens per pass."""
    acceptance_rate: float


def published() -> Mapping[str, Sequence[float]]:
    """Return published shares of drafts accepted at each position, by workload."""
    found = tomllib.loads((resources(__package__) / "published.toml").read_text("utf-8"))
    return {name: tuple(entry["shares"]) for name, entry in found.items()}


def forecast(
    costs: RoundCosts, workload: str, shares: Sequence[float], n_draft: int | None
) -> Forecast:
    """Return the expected speed.

    Args:
        costs: of rounds, up to the longest possible draft.
        workload: its name.
        shares: of drafts accepted at each position, as `bench` reports them; later positions
            are extrapolated from the last two.
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
    """Return, by position, the probability that a token is accepted if all before it were."""
    before = (1.0, *shares)
    chances = [share / b if b else 0.0 for share, b in zip(shares, before, strict=False)]
    return (chances + chances[-1:] * length)[:length]


def _paced(costs: RoundCosts, workload: str, chances: Sequence[float]) -> Forecast:
    """Simulate automatic pacing on measured costs and random confidences."""
    random, model = np.random.default_rng(0), CostModel()
    policy = model.policy(Calibration())
    seconds = tokens = accepted_in_all = drafted = 0.0
    for _ in range(_ROUNDS):
        plan = model.begin_round(1)
        policy.begin_round(len(chances), plan)
        confidences: list[float] = []
        steps = 0
        while policy.should_draft():
            mean = _CONCENTRATION * chances[steps]
            confidence = float(random.beta(mean + 1e-9, _CONCENTRATION - mean + 1e-9))
            steps += 1
            if not policy.should_verify(confidence):
                break
            confidences.append(confidence)
        length = len(confidences)
        hits = (random.random() < confidence for confidence in confidences)
        accepted = next((i for i, hit in enumerate(hits) if not hit), length)
        times = costs.draft_s[steps], costs.verify_s[length]
        policy.end_round(accepted, *times)
        outcome = Outcome(policy, length, steps, accepted + 1)
        model.end_round(plan, [outcome], *times, drafted=steps > 0)
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
