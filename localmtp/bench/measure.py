"""Generates the measured answers, in an order that favours no draft length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter

from localmtp.bench.workloads import Workloads
from localmtp.engine.events import Finished, Generated, Origin
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import AcceptanceRule
from localmtp.engine.stats import Stats
from localmtp.models import ModelFiles
from localmtp.session import Choices
from localmtp.session.local import LocalSession

_WARM_UP_TOKENS = 32
"""Length of an uncounted answer: enough to touch all weights and start automatic pacing."""


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """Workloads, draft lengths and sampling of a measurement."""

    workloads: Workloads
    lengths: Sequence[int | None]
    """Draft lengths; None is automatic pacing, 0 no drafting."""
    choices: Sequence[Choices]
    """Sampling settings; each is measured at every draft length."""
    repeats: int
    budget_s: float | None = None
    """Time limit in seconds; rounds that would exceed it are not started, except the first."""

    @property
    def answers(self) -> int:
        """Number of answers in all."""
        prompts = sum(map(len, self.workloads.values()))
        return prompts * len(self.lengths) * len(self.choices) * self.repeats


@dataclass(frozen=True, slots=True)
class MeasuredAnswer:
    """One measured answer."""

    workload: str
    prompt: int
    repeat: int
    temperature: float
    n_draft: int | None
    stats: Stats
    passes: tuple[tuple[int, int], ...]
    """Tokens drafted and accepted in each target pass."""


def measure(pair: Pair, files: ModelFiles, plan: MeasurePlan) -> Iterator[MeasuredAnswer]:
    """Yield answers as they are generated; the iterator may be closed at any point.

    A round is one prompt answered at every draft length, in an order that rotates from round to
    round, so that a machine that slows down affects all lengths equally. Each length has its own
    session: automatic pacing retains what it learned, as it does in a chat.

    Args:
        pair: loaded; the caller closes it.
        files: the pair's files.
        plan: what to measure.
    """
    began = perf_counter()
    sessions = [
        {n: LocalSession(pair, files, replace(c, n_draft=n)) for n in plan.lengths}
        for c in plan.choices
    ]
    first = next(iter(plan.workloads.values()))[0]
    for session in (s for by_length in sessions for s in by_length.values()):
        _warm_up(session, first)
    longest = 0.0
    for turn, (repeat, prompt, name, by_length) in enumerate(_rounds(plan, sessions)):
        round_began = perf_counter()
        if turn and plan.budget_s and round_began - began + longest > plan.budget_s:
            return
        for i in range(len(plan.lengths)):
            n_draft = plan.lengths[(i + turn) % len(plan.lengths)]
            session = by_length[n_draft]
            stats, passes = _answer(session, plan.workloads[name][prompt], repeat)
            temperature = session.settings.sampling.temperature
            yield MeasuredAnswer(name, prompt, repeat, temperature, n_draft, stats, passes)
        longest = max(longest, perf_counter() - round_began)


def _rounds(
    plan: MeasurePlan, sessions: Sequence[dict[int | None, LocalSession]]
) -> Iterator[tuple[int, int, str, dict[int | None, LocalSession]]]:
    """Yield repeat, prompt index, workload and sessions by length; all workloads come early."""
    most = max(map(len, plan.workloads.values()))
    for repeat, prompt, name in product(range(plan.repeats), range(most), plan.workloads):
        if prompt < len(plan.workloads[name]):
            for by_length in sessions:
                yield repeat, prompt, name, by_length


def _warm_up(session: LocalSession, prompt: str) -> None:
    settings = session.settings
    session.update_settings(replace(settings, max_tokens=_WARM_UP_TOKENS))
    _answer(session, prompt, 0)
    session.update_settings(settings)


def _answer(
    session: LocalSession, prompt: str, repeat: int
) -> tuple[Stats, tuple[tuple[int, int], ...]]:
    """Generates an answer in a new conversation; the seed depends on the repeat."""
    settings = session.settings
    sampling = settings.sampling
    if sampling.seed is None and sampling.acceptance == AcceptanceRule.AUTO:
        # The rule of answers without a seed; this seed only makes repeats differ.
        sampling = replace(sampling, acceptance=AcceptanceRule.MAXIMAL)
    sampling = replace(sampling, seed=(sampling.seed or 0) + repeat)
    session.update_settings(replace(settings, sampling=sampling))
    session.messages.clear()
    try:
        events = list(session.ask(prompt))
    finally:
        session.update_settings(settings)
    finished = events[-1]
    assert isinstance(finished, Finished)
    _, *passes = [e for e in events if isinstance(e, Generated)]
    return finished.stats, tuple(
        (len(e.drafted), sum(p.origin is Origin.DRAFT for p in e.pieces)) for e in passes
    )
