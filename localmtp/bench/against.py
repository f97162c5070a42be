"""localmtp and another engine on the same prompts, answer by answer.

Every prompt is answered by all contestants in succession, in an order that rotates, so that a
machine that slows down affects all of them equally. The time of the tokens after the first counts,
as in `run --json`; a server's time is measured here, unless it reports its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median, quantiles
from typing import Any

from localmtp.bench.workloads import Workloads
from localmtp.engine.sampling.params import AcceptanceRule
from localmtp.engine.stats import Stats
from localmtp.session import Session

_WARM_UP_TOKENS = 32


@dataclass(frozen=True, slots=True)
class ContestAnswer:
    """One answer of one contestant."""

    contestant: str
    temperature: float
    turn: int
    """Number of the round; all contestants answer the same prompt in a round."""
    stats: Stats


@dataclass(frozen=True, slots=True)
class Contest:
    """Prompts, and who answers them."""

    workloads: Workloads
    contestants: Mapping[str, tuple[Session, int | None]]
    """By name: a session, and the draft length that it is given; None for automatic, or for a
    server's own."""
    temperatures: Sequence[float]
    max_tokens: int
    repeats: int

    @property
    def answers(self) -> int:
        """Number of answers in all."""
        prompts = sum(map(len, self.workloads.values()))
        return prompts * len(self.contestants) * len(self.temperatures) * self.repeats


@dataclass(frozen=True, slots=True)
class Standing:
    """All answers of one contestant at one temperature."""

    contestant: str
    temperature: float
    answers: int
    tokens_per_s: float
    """Sum of tokens by sum of seconds."""
    quartiles: tuple[float, float, float]
    """Of the tokens per second of single answers."""
    acceptance_rate: float | None
    """None where nothing was drafted, or nothing is known of it."""
    tokens_per_pass: float | None
    ttft_s: float
    """Median."""


def contest_answers(contest: Contest) -> Iterator[ContestAnswer]:
    """Yields answers as they are generated; the iterator may be closed at any point."""
    order = list(contest.contestants)
    first = next(iter(contest.workloads.values()))[0]
    for name in order:
        _answer(contest, name, first, contest.temperatures[0], 0, longest=_WARM_UP_TOKENS)
    prompts = [prompt for listed in contest.workloads.values() for prompt in listed]
    rounds = product(range(contest.repeats), prompts, contest.temperatures)
    for turn, (repeat, prompt, temperature) in enumerate(rounds):
        order.append(order.pop(0))
        for name in order:
            stats = _answer(contest, name, prompt, temperature, repeat, longest=contest.max_tokens)
            yield ContestAnswer(name, temperature, turn, stats)


def _answer(
    contest: Contest, name: str, prompt: str, temperature: float, repeat: int, *, longest: int
) -> Stats:
    session, n_draft = contest.contestants[name]
    settings = session.settings
    sampling = replace(settings.sampling, temperature=temperature)
    if sampling.seed is None and sampling.acceptance == AcceptanceRule.AUTO:
        # The rule of answers without a seed; this seed only makes repeats differ.
        sampling = replace(sampling, acceptance=AcceptanceRule.MAXIMAL)
    sampling = replace(sampling, seed=(sampling.seed or 0) + repeat)
    session.update_settings(
        replace(settings, sampling=sampling, n_draft=n_draft, max_tokens=longest)
    )
    session.messages.clear()
    try:
        for _ in session.ask(prompt):
            pass
    finally:
        session.update_settings(settings)
    return session.stats()


def standings(contest: Contest, answers: Sequence[ContestAnswer]) -> list[Standing]:
    """Returns figures by temperature and contestant; those without answers are left out."""
    found = (
        _standing([a.stats for a in answers if (a.temperature, a.contestant) == key], *key)
        for key in product(contest.temperatures, contest.contestants)
    )
    return [standing for standing in found if standing]


def _standing(stats: Sequence[Stats], temperature: float, contestant: str) -> Standing | None:
    timed = [s for s in stats if s.completion_tokens > 1 and s.decode_s > 0]
    if not timed:
        return None
    rates = [(s.completion_tokens - 1) / s.decode_s for s in timed]
    drafted, passes = sum(s.drafted for s in timed), sum(s.target_passes for s in timed)
    tokens = sum(s.completion_tokens - 1 for s in timed)
    low, middle, high = quantiles(rates * 2, n=4)
    return Standing(
        contestant,
        temperature,
        len(timed),
        tokens / sum(s.decode_s for s in timed),
        (low, middle, high),
        sum(s.accepted for s in timed) / drafted if drafted else None,
        tokens / passes if passes else None,
        median(s.ttft_s for s in timed),
    )


def ratios(
    answers: Sequence[ContestAnswer], one: str, other: str, temperature: float
) -> tuple[float, float, float] | None:
    """Returns quartiles of the ratio of two contestants' tokens per second, prompt by prompt.

    The three are equal for a single round; None if they have no round in common.
    """
    rates: dict[int, dict[str, float]] = {}
    for answer in answers:
        stats = answer.stats
        if answer.temperature == temperature and stats.completion_tokens > 1 and stats.decode_s > 0:
            rate = (stats.completion_tokens - 1) / stats.decode_s
            rates.setdefault(answer.turn, {})[answer.contestant] = rate
    pairs = [found[one] / found[other] for found in rates.values() if {one, other} <= found.keys()]
    if not pairs:
        return None
    low, middle, high = quantiles(pairs * 2, n=4)
    return low, middle, high


def as_rows(standing: Standing) -> dict[str, Any]:
    """Returns the JSON form of a standing."""
    low, middle, high = standing.quartiles
    return {
        "contestant": standing.contestant,
        "temperature": standing.temperature,
        "answers": standing.answers,
        "tokens_per_s": standing.tokens_per_s,
        "answer_tokens_per_s": {"q1": low, "median": middle, "q3": high},
        "acceptance_rate": standing.acceptance_rate,
        "tokens_per_pass": standing.tokens_per_pass,
        "ttft_s": standing.ttft_s,
    }
