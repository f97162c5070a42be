"""Records a full trace of a pair on its workloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

from localmtp.bench.lab.pacing.trace_file import CostCurve, TracedAnswer
from localmtp.bench.workloads import Workloads
from localmtp.engine.decoding.trace import Round, Trace
from localmtp.limits import MAX_AUTO_DRAFT
from localmtp.session.local import LocalSession

_CURVE_TOKENS = 96
"""Length of the answers that measure costs: enough rounds for a median at every draft length."""


def record(session: LocalSession, workloads: Workloads) -> Iterator[TracedAnswer]:
    """Answer every prompt, drafting at full length at every position.

    Args:
        session: its sampling settings apply.
        workloads: prompts by workload.

    Yields:
        The rounds of each answer.
    """
    rounds: list[Round] = []
    session.trace = Trace(rounds.append, full=True)
    for name, prompts in workloads.items():
        for prompt in prompts:
            _answer(session, prompt)
            yield TracedAnswer(name, tuple(rounds))
            rounds.clear()
    session.trace = None


def measured_curve(session: LocalSession, prompt: str) -> CostCurve:
    """Measure the cost of passes by draft length: medians over the rounds of one answer each."""
    rounds: list[Round] = []
    session.trace = Trace(rounds.append)
    settings = session.settings
    for length in range(MAX_AUTO_DRAFT + 1):
        session.update_settings(replace(settings, n_draft=length, max_tokens=_CURVE_TOKENS))
        _answer(session, prompt)
    session.update_settings(settings)
    session.trace = None

    def seconds(pick: Callable[[Round], float], length: int) -> float:
        return median(pick(r) for r in rounds if r.drafted == length)

    return CostCurve(
        "this machine",
        tuple(seconds(lambda r: r.verify_s, n) for n in range(MAX_AUTO_DRAFT + 1)),
        median(r.draft_s / r.drafted for r in rounds if r.drafted),
    )


def _answer(session: LocalSession, prompt: str) -> None:
    session.messages.clear()
    for _ in session.ask(prompt):
        pass
