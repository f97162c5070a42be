"""Generating the answers that are measured, in an order that favours no draft length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter

from localmtp.bench.workloads import Workloads
from localmtp.engine.events import Finished, Generated, Origin
from localmtp.engine.pair import Pair
from localmtp.engine.stats import Stats
from localmtp.models import ModelFiles
from localmtp.session import Choices
from localmtp.session.local import LocalSession

_WARM_UP_TOKENS = 32
"""Enough to touch all weights and to let automatic pacing try its first lengths."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    workloads: Workloads
    lengths: Sequence[int | None]
    """Draft lengths; None is automatic pacing, 0 is no drafting."""
    choices: Sequence[Choices]
    """Ways to sample; each is measured at every length."""
    repeats: int
    budget_s: float | None = None
    """No round is begun that would not end within it; the first one always is."""

    @property
    def answers(self) -> int:
        """How many there are in all."""
        prompts = sum(map(len, self.workloads.values()))
        return prompts * len(self.lengths) * len(self.choices) * self.repeats


@dataclass(frozen=True, slots=True)
class Answer:
    """One measured answer."""

    workload: str
    prompt: int
    repeat: int
    temperature: float
    n_draft: int | None
    stats: Stats
    passes: tuple[tuple[int, int], ...]
    """Of each target pass: tokens drafted, and how many of them were accepted."""


def measure(pair: Pair, files: ModelFiles, plan: Plan) -> Iterator[Answer]:
    """Measure, yielding each answer when it is there; may be abandoned at any point.

    A round is one prompt answered at every length, in an order that is rotated from round to
    round: a machine that slows down meets all lengths alike. Each length has a session of its own,
    so that automatic pacing keeps what it learned, as it does in a chat.

    Args:
        pair: loaded; stays the caller's to close.
        files: where it came from.
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
            yield Answer(name, prompt, repeat, temperature, n_draft, stats, passes)
        longest = max(longest, perf_counter() - round_began)


def _rounds(
    plan: Plan, sessions: Sequence[dict[int | None, LocalSession]]
) -> Iterator[tuple[int, int, str, dict[int | None, LocalSession]]]:
    """Repeat, prompt, workload, sessions by length; all workloads are met early."""
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
    """Answer in a fresh conversation; repeats differ in their seed."""
    settings = session.settings
    sampling = replace(settings.sampling, seed=(settings.sampling.seed or 0) + repeat)
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
