"""Thresholds of drafting: the quick bound against the full solution."""

import numpy as np

from localmtp.engine.pacing.stopping import (
    FREE,
    NEVER,
    Problem,
    batched,
    ruled_out,
    single,
    thresholds,
)

LENGTHS = 9
GRID = 0.01
"""Tokens by which a rounded grid of probabilities may overestimate a round."""


def test_drafts_that_the_bound_rules_out_do_not_pay() -> None:
    random = np.random.default_rng(1)
    found = 0
    for _ in range(1000):
        growth = random.choice([-0.05, 0.0, 0.02, 0.1, 0.3, 0.6], LENGTHS - 1)
        costs = np.cumprod([1.0, *(1.0 + growth * random.random(LENGTHS - 1))]).tolist()
        accepted = np.sort(random.random(9)).tolist()
        problem = Problem(
            costs,
            random.choice([0.02, 0.1, 0.3, 0.6]),
            random.uniform(1.0, 1.3),
            accepted,
            random.dirichlet(np.ones(9)).tolist(),
        )
        bound = ruled_out(problem)
        if bound is None:
            continue
        found += 1
        assert min(bound.draft) == NEVER
        change = random.random()
        for policies in (FREE, single(change, LENGTHS - 1), batched(change, LENGTHS - 1)):
            assert thresholds(problem, policies).worth < GRID
    assert found > 100


def test_the_bound_rules_out_no_draft_that_pays() -> None:
    costs = [1.0 + 0.05 * n for n in range(LENGTHS)]
    problem = Problem(costs, 0.05, 1.0, [0.9], [1.0])
    assert ruled_out(problem) is None
    assert thresholds(problem).draft[0] < NEVER
