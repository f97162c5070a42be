"""Pacing of several answers on simulated machines: drafting is reduced as far as it stops
paying."""

import json
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from localmtp.engine.pacing import Calibration, CostModel, DraftPolicy, FixedPolicy, Outcome
from tests.engine.rounds import SingleAnswer

Cost = Callable[[int], float]

STEP_S = 0.0006


def roofline(rows: int) -> float:
    """A pass is bound by reading the weights, then by compute."""
    return 0.010 * max(1.0 + 0.02 * rows, rows / 12)


def stairs(rows: int) -> float:
    """Kernels work on blocks of four rows, each as expensive as half of reading the weights."""
    return 0.010 * (1.0 + 0.5 * ((rows - 1) // 4))


def steep(rows: int) -> float:
    """Every row is nearly as expensive as the first."""
    return 0.010 * (0.2 + 0.8 * rows)


def one_round(
    answers: Sequence[DraftPolicy],
    costs: CostModel,
    cost: Cost,
    acceptance: float,
    random: np.random.Generator,
) -> tuple[list[Outcome], float]:
    """Runs a round of all answers; returns outcomes and seconds."""
    plan = costs.begin_round(len(answers))
    lengths, steps = [], []
    for answer in answers:
        answer.begin_round(8, plan)
        length = taken = 0
        while answer.should_draft():
            taken += 1
            if not answer.should_verify(
                float(np.clip(random.normal(acceptance, 0.1), 0.01, 0.999))
            ):
                break
            length += 1
        lengths.append(length)
        steps.append(taken)
    draft_s, verify_s = max(steps) * STEP_S, cost(sum(lengths) + len(answers))
    outcomes = []
    for answer, length, taken in zip(answers, lengths, steps, strict=True):
        missed = random.random(length) >= acceptance
        accepted = int(missed.argmax()) if missed.any() else length
        answer.end_round(accepted, draft_s, verify_s)
        outcomes.append(Outcome(answer, length, taken, accepted + 1))
    costs.end_round(plan, outcomes, draft_s, verify_s, drafted=max(steps) > 0)
    return outcomes, draft_s + verify_s


def simulate(
    answers: Sequence[DraftPolicy],
    costs: CostModel,
    cost: Cost,
    acceptance: float,
    rounds: int,
    seed: int = 0,
) -> tuple[float, float]:
    """Simulates rounds of all answers.

    Returns:
        Tokens per second and mean draft length over the last half.
    """
    random = np.random.default_rng(seed)
    tokens, seconds, drafted = np.zeros(rounds), np.zeros(rounds), np.zeros(rounds)
    for i in range(rounds):
        outcomes, seconds[i] = one_round(answers, costs, cost, acceptance, random)
        tokens[i] = sum(outcome.tokens for outcome in outcomes)
        drafted[i] = sum(outcome.drafted for outcome in outcomes)
    late = slice(rounds // 2, None)
    mean = float(drafted[late].mean()) / len(answers)
    return float(tokens[late].sum() / seconds[late].sum()), mean


def auto(size: int, cost: Cost, acceptance: float, rounds: int = 1500) -> tuple[float, float]:
    costs, calibration = CostModel(), Calibration()
    answers = [costs.policy(calibration) for _ in range(size)]
    return simulate(answers, costs, cost, acceptance, rounds)


def burst(load: int, cost: Cost, acceptance: float, n_draft: int | None, seed: int) -> float:
    """Returns tokens per second of short answers, `load` at a time, without saved calibration."""
    random, costs, calibration = np.random.default_rng(seed), CostModel(), Calibration()
    running: dict[DraftPolicy, float] = {}
    waiting, got, seconds = max(16, 2 * load), 0, 0.0
    while waiting or running:
        if waiting and len(running) < load:  # one prompt is prefilled at a time
            answer = costs.policy(calibration) if n_draft is None else FixedPolicy(n_draft)
            running[answer] = 48 * random.uniform(0.5, 1.5)
            waiting -= 1
        measured = partial(_measured, cost=cost, random=random)
        outcomes, took = one_round([*running], costs, measured, acceptance, random)
        seconds += took
        for outcome in outcomes:
            got += outcome.tokens
            running[outcome.policy] -= outcome.tokens
        running = {answer: left for answer, left in running.items() if left > 0}
    return got / seconds


def _measured(rows: int, cost: Cost, random: np.random.Generator) -> float:
    return cost(rows) * float(random.lognormal(0.0, 0.1))


def fixed(size: int, n: int, cost: Cost, acceptance: float) -> float:
    """Returns the expected tokens per second of a fixed draft length."""
    tokens = sum(acceptance**i for i in range(n + 1))
    return size * tokens / (cost(size * (n + 1)) + n * STEP_S)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("cost", [roofline, stairs, steep])
@pytest.mark.parametrize("acceptance", [0.5, 0.9])
def test_auto_is_as_fast_as_the_best_fixed_length(size: int, cost: Cost, acceptance: float) -> None:
    best = max(fixed(size, n, cost, acceptance) for n in range(9))
    speed, _ = auto(size, cost, acceptance)
    assert speed > 0.93 * best
    assert speed > 0.96 * fixed(size, 0, cost, acceptance)


@pytest.mark.parametrize("cost", [roofline, stairs, steep])
@pytest.mark.parametrize("acceptance", [0.5, 0.7, 0.9])
def test_exploration_costs_little(cost: Cost, acceptance: float) -> None:
    shares = []
    for load in (1, 4, 8, 16):
        speeds = {
            n: np.mean([burst(load, cost, acceptance, n, seed) for seed in range(4)])
            for n in (0, 3, None)
        }
        shares.append(speeds[None] / max(speeds[0], speeds[3]))
    assert min(shares) > 0.85
    assert np.mean(shares) > 0.92


@pytest.mark.parametrize("slowdown", [1.0, 4.0])
@pytest.mark.parametrize(("cost", "acceptance", "drafts"), [(steep, 0.5, 0), (roofline, 0.9, 4)])
def test_a_run_begins_with_the_costs_of_the_last_one(
    slowdown: float, cost: Cost, acceptance: float, drafts: int
) -> None:
    random, costs, calibration = np.random.default_rng(0), CostModel(), Calibration()
    for _ in range(200):
        one_round([costs.policy(calibration)], costs, cost, acceptance, random)
    later = CostModel(json.loads(json.dumps(costs.dump())))
    answer = later.policy(Calibration.load(json.loads(json.dumps(calibration.dump()))))
    lengths = []
    for _ in range(12):
        ((outcome,), _) = one_round(
            [answer], later, lambda rows: slowdown * cost(rows), acceptance, random
        )
        lengths.append(outcome.drafted)
    assert lengths[:2] == [0, 0]
    assert min(lengths[2:]) >= drafts if drafts else max(lengths[2:]) == 0


def test_drafts_get_shorter_as_the_batch_grows() -> None:
    lengths = [auto(size, roofline, 0.8)[1] for size in (1, 4, 8, 16)]
    assert lengths[0] > lengths[1] > lengths[2] > lengths[3]
    assert lengths[0] > 3
    assert lengths[3] < 0.1


def test_drafting_resumes_when_other_answers_end() -> None:
    costs, calibration = CostModel(), Calibration()
    answers = [costs.policy(calibration) for _ in range(16)]
    _, crowded = simulate(answers, costs, roofline, 0.8, 400)
    assert answers[0].state.startswith("off: ")
    _, alone = simulate(answers[:1], costs, roofline, 0.8, 200)
    assert crowded < 0.1
    assert alone > 3
    assert answers[0].state == "on"


def test_a_fixed_length_is_unaffected_by_automatic_answers() -> None:
    costs, calibration = CostModel(), Calibration()
    answers: list[DraftPolicy] = [FixedPolicy(2), *(costs.policy(calibration) for _ in range(7))]
    _, mean = simulate(answers, costs, steep, 0.3, 400)
    assert mean == pytest.approx(2 / 8, abs=0.05)


class Rebuilding:
    """A machine on which a change of rows takes more than half a pass."""

    def __init__(self) -> None:
        self._before = 0

    def __call__(self, rows: int) -> float:
        change = 0.006 if rows != self._before else 0.0
        self._before = rows
        return 0.010 + 0.0008 * (rows - 1) + change


@pytest.mark.parametrize("acceptance", [0.7, 0.9])
def test_the_draft_length_is_stable_where_changes_are_expensive(acceptance: float) -> None:
    def steady(rows: int) -> float:
        return 0.010 + 0.0008 * (rows - 1)

    speed, _ = auto(1, Rebuilding(), acceptance)
    assert speed > 0.95 * max(fixed(1, n, steady, acceptance) for n in range(9))


def test_answers_of_a_single_round_are_paced_too() -> None:
    """Each follows a prefill pass, so no round has as many rows as the pass before."""
    answer = SingleAnswer()
    for _ in range(20):
        answer.costs.interrupt()
        answer.begin(limit=0)
        assert answer.draft([]) == (0, 0)
        answer.end(0, 0.0, 0.010)
    assert answer.costs.plain_tokens_per_s == pytest.approx(100, rel=0.2)
    answer.begin(limit=8)
    assert answer.draft([0.9] * 8)[0] > 0


def test_the_first_pass_of_every_kind_is_not_measured_where_it_compiles() -> None:
    answer = SingleAnswer(costs=CostModel(compiles=True))
    seen = set()
    for _ in range(12):
        answer.begin()
        drafted, steps = answer.draft([0.9] * 8)
        first = (drafted, steps) not in seen
        seen.add((drafted, steps))
        answer.end(drafted, (0.1 if first else 0.001) * steps, 1.0 if first else 0.010)
    plan = answer.costs.plan(1)
    assert plan.curve[0] == pytest.approx(0.010)
    assert max(plan.curve) < 0.2
    assert plan.costs.step_s == pytest.approx(0.001)
