"""Draft lengths of automatic pacing on simulated machines and texts."""

import numpy as np
import pytest

from localmtp.engine.pacing import FixedPolicy
from tests.engine.rounds import SingleAnswer

# Seconds of a verification pass by draft length: GPU-like, a CPU's worst, E2B on two cores.
FLAT = [0.010 * (1 + 0.04 * n) for n in range(9)]
STEEP = [0.010 * (1 + 0.9 * n) for n in range(9)]
STAIRS = [0.047, 0.088, 0.118, 0.118, 0.165, 0.196, 0.210, 0.236, 0.281]


def simulate(
    answer: SingleAnswer,
    cost: list[float],
    step_s: float,
    acceptance: float,
    rounds: int,
    seed: int = 0,
) -> tuple[float, float]:
    """Runs rounds with drafts accepted at random, at the rate of the drafter's confidence.

    Returns:
        Tokens per second and mean draft length over the last half.
    """
    random = np.random.default_rng(seed)
    tokens = seconds = lengths = 0.0
    for i in range(rounds):
        answer.begin(8)
        kept, steps = answer.draft([acceptance] * 8)
        missed = random.random(kept) >= acceptance
        accepted = int(missed.argmax()) if missed.any() else kept
        answer.end(accepted, steps * step_s, cost[kept])
        if i >= rounds // 2:
            tokens += accepted + 1
            seconds += steps * step_s + cost[kept]
            lengths += kept
    return tokens / seconds, lengths / (rounds - rounds // 2)


@pytest.mark.parametrize("cost", [FLAT, STEEP, STAIRS])
@pytest.mark.parametrize("acceptance", [0.2, 0.6, 0.9])
def test_auto_is_as_fast_as_the_best_fixed_length(cost: list[float], acceptance: float) -> None:
    step_s = 0.03 * cost[0]
    reached = [sum(acceptance**i for i in range(n + 1)) for n in range(9)]
    best = max(reached[n] / (cost[n] + n * step_s) for n in range(9))
    auto, _ = simulate(SingleAnswer(), cost, step_s, acceptance, 800)
    assert auto > 0.93 * best


def test_drafting_stops_where_it_never_pays_and_reports_it() -> None:
    pacing = SingleAnswer()
    speed, length = simulate(pacing, STEEP, 0.004, 0.3, 1000)
    assert speed > 0.98 / STEEP[0]
    assert length < 0.05
    assert pacing.state.startswith("off: drafting would be ")


def test_drafting_resumes_when_the_text_becomes_predictable() -> None:
    pacing = SingleAnswer()
    _, before = simulate(pacing, STAIRS, 0.0016, 0.2, 800)
    _, after = simulate(pacing, STAIRS, 0.0016, 0.98, 800)
    assert before < 0.1
    assert after > 2
    assert pacing.state == "on"


def test_lengths_between_measured_ones_are_tried() -> None:
    # Four and five drafts cost hardly more than three, eight far more: a straight line from three
    # to eight would hide them.
    cost = [0.211, 0.351, 0.547, 0.670, 0.744, 0.790, 1.211, 1.125, 1.573]
    _, length = simulate(SingleAnswer(), cost, 0.006, 0.985, 600)
    assert 4 <= length <= 5


def test_drafting_resumes_when_the_machine_is_idle_again() -> None:
    pacing = SingleAnswer()
    busy = [0.1 * (1 + 0.9 * n) for n in range(9)]
    _, before = simulate(pacing, busy, 0.04, 0.5, 400)
    _, after = simulate(pacing, FLAT, 0.0005, 0.9, 10_000)
    assert before < 0.1
    assert after > 2


def test_one_stall_changes_nothing() -> None:
    pacing = SingleAnswer()
    simulate(pacing, FLAT, 0.0005, 0.9, 500)
    pacing.begin(8)
    pacing.draft([0.9] * 8)
    pacing.end(2, 0.0015, 30.0)
    _, length = simulate(pacing, FLAT, 0.0005, 0.9, 100)
    assert length > 3


def test_a_fixed_length_is_constant_and_limited() -> None:
    pacing = SingleAnswer(FixedPolicy(3))
    for limit, expected in ((8, 3), (2, 2), (0, 0)):
        pacing.begin(limit)
        assert pacing.draft([0.01] * 8) == (expected, expected)
    assert FixedPolicy(0).state == "off: --n-draft 0"
    assert FixedPolicy(0, "no drafter was found").state == "off: no drafter was found"


def test_a_drafter_better_than_its_confidence_is_used_where_it_barely_pays() -> None:
    # One draft gains 5 % if 0.96 are accepted, and loses as much at the drafter's own word.
    cost, step_s, random = [0.315, 0.464, 0.657, 0.802], 0.122, np.random.default_rng(0)
    pacing, tokens, seconds = SingleAnswer(), 0, 0.0
    for _ in range(6000):
        pacing.begin(3)
        kept, steps = pacing.draft(random.choice([0.4, 0.6, 0.7, 0.85, 0.93, 0.98], 3).tolist())
        missed = random.random(kept) >= 0.96
        accepted = int(missed.argmax()) if missed.any() else kept
        pacing.end(accepted, steps * step_s, cost[kept])
        tokens += accepted + 1
        seconds += steps * step_s + cost[kept]
    assert tokens / seconds > 1.02 / cost[0]


def test_costs_are_learned_while_drafting_is_paused() -> None:
    pacing = SingleAnswer()
    simulate(pacing, STEEP, 0.004, 0.3, 1000)
    assert pacing.costs.plain_tokens_per_s == pytest.approx(1 / STEEP[0], rel=0.05)
    simulate(pacing, [3 * seconds for seconds in STEEP], 0.012, 0.3, 120)
    assert pacing.costs.plain_tokens_per_s == pytest.approx(1 / (3 * STEEP[0]), rel=0.05)
    assert pacing.state.startswith("off")
