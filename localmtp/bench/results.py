"""Figures from measured answers: medians over repeats, and speedups over no drafting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

from localmtp.bench.measure import MeasuredAnswer, MeasurePlan
from localmtp.engine.stats import Counters, Stats


@dataclass(frozen=True, slots=True)
class Run:
    """One workload at one draft length and temperature."""

    workload: str
    n_draft: int | None
    temperature: float
    answers: tuple[MeasuredAnswer, ...]
    rates: tuple[float, ...]
    """Decoded tokens per second of each repeat, over all prompts."""
    stats: Stats
    """Statistics pooled over all answers."""
    completion_tokens: int
    """Mean over repeats, rounded."""

    @property
    def rate(self) -> float:
        """Median decoded tokens per second over repeats."""
        return median(self.rates)

    @property
    def label(self) -> str:
        """The draft length as in flags and JSON."""
        return label(self.n_draft)


def label(n_draft: int | None) -> str:
    """Return a draft length as in flags and JSON: `auto` for None."""
    return "auto" if n_draft is None else str(n_draft)


class Results:
    """All figures that can be compared.

    Unfinished rounds are left out, since not all draft lengths ran under the same conditions; so is
    an unfinished repeat of a workload, unless it is the first.

    Args:
        plan: of the measurement.
        answers: as measured, possibly fewer than planned.
    """

    def __init__(self, plan: MeasurePlan, answers: Iterable[MeasuredAnswer]) -> None:
        self.lengths = tuple(plan.lengths)
        self._runs = {
            (temperature, workload, n): _run(
                workload, n, temperature, [[a for a in r if a.n_draft == n] for r in repeats]
            )
            for (temperature, workload), repeats in _repeats(plan, answers).items()
            for n in plan.lengths
        }

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return list(self._runs.values())

    @property
    def settings(self) -> list[tuple[float, str]]:
        """Temperatures and workloads that were measured, grouped by temperature."""
        found = list(dict.fromkeys((temperature, name) for temperature, name, _ in self._runs))
        order = list(dict.fromkeys(temperature for temperature, _ in found))
        return sorted(found, key=lambda setting: order.index(setting[0]))

    def run(self, temperature: float, workload: str, n_draft: int | None) -> Run:
        """Return one run.

        Raises:
            KeyError: it was not measured.
        """
        return self._runs[temperature, workload, n_draft]

    def speedup(self, run: Run) -> float:
        """Return the speedup over no drafting, on the same prompts."""
        return run.rate / self.run(run.temperature, run.workload, 0).rate

    def mean_speedup(self, temperature: float, n_draft: int | None) -> float:
        """Return the geometric mean of the speedups over workloads."""
        return geometric_mean(
            self.speedup(run)
            for run in self.runs
            if run.temperature == temperature and run.n_draft == n_draft
        )

    def best_fixed(self, temperature: float, workload: str) -> Run:
        """Return the fastest run of a fixed draft length, 0 included.

        Being the best of several noisy values, it is biased upwards.
        """
        fixed = [self.run(temperature, workload, n) for n in self.lengths if n is not None]
        return max(fixed, key=lambda run: run.rate)

    def pooled(self, temperature: float, n_draft: int | None) -> Stats:
        """Return statistics over all workloads, weighted by their time."""
        runs = (r for r in self.runs if r.temperature == temperature and r.n_draft == n_draft)
        return _pooled(answer for run in runs for answer in run.answers)


def _repeats(
    plan: MeasurePlan, answers: Iterable[MeasuredAnswer]
) -> dict[tuple[float, str], list[list[MeasuredAnswer]]]:
    """Return comparable answers by temperature and workload, then by repeat."""
    rounds: dict[tuple[float, str, int, int], list[MeasuredAnswer]] = defaultdict(list)
    for answer in answers:
        rounds[answer.temperature, answer.workload, answer.repeat, answer.prompt].append(answer)
    repeats: dict[tuple[float, str, int], list[list[MeasuredAnswer]]] = defaultdict(list)
    for (temperature, workload, repeat, _), found in rounds.items():
        if len(found) == len(plan.lengths):
            repeats[temperature, workload, repeat].append(found)
    counted: dict[tuple[float, str], list[list[MeasuredAnswer]]] = defaultdict(list)
    for (temperature, workload, repeat), whole in repeats.items():
        if repeat == 0 or len(whole) == len(plan.workloads[workload]):
            counted[temperature, workload].append([a for found in whole for a in found])
    return counted


def _run(
    workload: str,
    n_draft: int | None,
    temperature: float,
    repeats: Sequence[Sequence[MeasuredAnswer]],
) -> Run:
    answers = tuple(a for repeat in repeats for a in repeat)
    return Run(
        workload=workload,
        n_draft=n_draft,
        temperature=temperature,
        answers=answers,
        rates=tuple(_pooled(repeat).decode_tokens_per_s for repeat in repeats),
        stats=_pooled(answers),
        completion_tokens=round(sum(a.stats.completion_tokens for a in answers) / len(repeats)),
    )


def _pooled(answers: Iterable[MeasuredAnswer]) -> Stats:
    """Return statistics of several answers as if they were one."""
    counters = Counters(completion_tokens=1)  # the first token of an answer is not decoded
    for answer in answers:
        stats = answer.stats
        for drafted, accepted in answer.passes:
            counters.count_round(0, drafted, accepted)
        counters.draft_steps += stats.draft_steps
        counters.completion_tokens += max(0, stats.completion_tokens - 1)
        counters.draft_s += stats.time.draft_s
        counters.verify_s += stats.time.verify_s
        counters.sample_s += stats.time.sample_s
        counters.last_token += stats.decode_s
    return counters.snapshot()
