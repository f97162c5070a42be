"""Replays draft policies on a full trace.

For every position of every answer, a full trace has a draft of full length, the drafter's
confidence at each step, and the number of tokens that the target accepts. At each position, a
policy decides step by step on the confidences it would have seen; the cost curve gives the time,
and the replay continues behind the accepted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from localmtp.bench.lab.pacing.policies import PerRound, Threshold
from localmtp.bench.lab.pacing.trace_file import CostCurve, TracedAnswer
from localmtp.engine.decoding.trace import Round
from localmtp.engine.pacing import (
    AutoPolicy,
    Calibration,
    CostModel,
    DraftPolicy,
    FixedPolicy,
    Outcome,
    RoundPlan,
)
from localmtp.limits import MAX_AUTO_DRAFT

CURVES = (
    # More rows are almost free where memory bandwidth is the limit.
    CostCurve("GPU-like, flat", tuple(1 + 0.04 * n for n in range(9)), 0.06),
    CostCurve("medium", tuple(1 + 0.15 * n for n in range(9)), 0.08),
    # Gemma 4 E2B's shape at Q4_0 on two cores; seven rows are interpolated.
    CostCurve("E2B on two cores", (47, 88, 118, 118, 165, 196, 216, 236, 281), 1.6),
    # Each row reads experts of its own; later rows read fewer new ones.
    CostCurve("mixture of experts", (1, 1.5, 1.85, 2.1, 2.35, 2.6, 2.8, 3, 3.2), 0.08),
)

_LEASTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """Result of a policy under one cost curve."""

    policy: str
    speed: float
    """Speedup over no drafting."""
    draft_length: float | None
    """Mean; None for the oracle."""


def replay(
    answers: Iterable[TracedAnswer], policy: DraftPolicy, curve: CostCurve
) -> tuple[float, float]:
    """Replay a policy.

    Returns:
        Tokens per second, and the mean draft length.
    """
    costs = CostModel()
    tokens = rounds = drafted = 0
    seconds = 0.0
    for answer in answers:
        at = 0
        while at < len(answer.rounds):
            plan = costs.begin_round(1)
            policy.begin_round(min(len(answer.rounds) - at - 1, answer.rounds[at].drafted), plan)
            length, steps = _draft(answer.rounds[at], policy)
            accepted = min(length, answer.rounds[at].accepted)
            draft_s, verify_s = steps * curve.step_s, curve.pass_s[length]
            policy.end_round(accepted, draft_s, verify_s)
            outcome = Outcome(policy, length, steps, accepted + 1)
            costs.end_round(plan, [outcome], draft_s, verify_s, drafted=steps > 0)
            at += accepted + 1
            tokens += accepted + 1
            seconds += draft_s + verify_s
            rounds += 1
            drafted += length
    return tokens / seconds, drafted / rounds


def _draft(seen: Round, policy: DraftPolicy) -> tuple[int, int]:
    """Return the draft length and the number of draft steps."""
    length = 0
    while policy.should_draft():
        if not policy.should_verify(seen.confidence[length]):
            return length, length + 1
        length += 1
    return length, length


def oracle(answers: Iterable[TracedAnswer], curve: CostCurve) -> float:
    """Return tokens per second with perfect knowledge of what is accepted."""
    tokens, seconds = 0, 0.0
    for answer in answers:
        left = [0.0] * (len(answer.rounds) + 1)  # seconds from a position to the end
        for at in range(len(answer.rounds) - 1, -1, -1):
            seen = answer.rounds[at]
            longest = min(seen.drafted, len(answer.rounds) - at - 1)
            left[at] = min(
                curve.pass_s[n] + n * curve.step_s + left[at + min(n, seen.accepted) + 1]
                for n in range(longest + 1)
            )
        tokens += len(answer.rounds)
        seconds += left[0]
    return tokens / seconds


def compare(answers: Sequence[TracedAnswer], curve: CostCurve) -> list[PolicyResult]:
    """Replay all policies; of the fixed lengths and thresholds, return the best in hindsight."""
    plain, _ = replay(answers, FixedPolicy(0), curve)

    def best(named: Iterable[tuple[str, Callable[[], DraftPolicy]]]) -> PolicyResult:
        outcomes = []
        for name, make in named:
            speed, length = replay(answers, make(), curve)
            outcomes.append(PolicyResult(name, speed / plain, length))
        return max(outcomes, key=lambda outcome: outcome.speed)

    fixed = ((f"best fixed: {n}", lambda n=n: FixedPolicy(n)) for n in range(MAX_AUTO_DRAFT + 1))
    tuned = (
        (f"best threshold: {t}, at most {n}", lambda t=t, n=n: Threshold(t, n))
        for t, n in product(_LEASTS, range(1, MAX_AUTO_DRAFT + 1))
    )
    return [
        best([("fixed 3", lambda: FixedPolicy(3))]),
        best(fixed),
        best([("per round", lambda: PerRound(curve.pass_s, curve.step_s))]),
        best(tuned),
        best([("auto", lambda: AutoPolicy(Calibration(), RoundPlan()))]),
        PolicyResult("oracle", oracle(answers, curve) / plain, None),
    ]
