"""From answers to figures: medians over repeats, compared with no drafting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

from localmtp.bench.measure import Answer, Plan
from localmtp.engine.stats import Counters, Stats


@dataclass(frozen=True, slots=True)
class Run:
    """A workload at one draft length and temperature."""

    workload: str
    n_draft: int | None
    temperature: float
    answers: tuple[Answer, ...]
    rates: tuple[float, ...]
    """Decoded tokens per second in each repeat, over all prompts."""
    stats: Stats
    """All answers pooled."""
    completion_tokens: int
    """Of one repeat, rounded."""

    @property
    def rate(self) -> float:
        """The median over repeats."""
        return median(self.rates)

    @property
    def label(self) -> str:
        """The draft length as it is written in flags and JSON."""
        return label(self.n_draft)


def label(n_draft: int | None) -> str:
    """A draft length as it is written in flags and JSON."""
    return "auto" if n_draft is None else str(n_draft)


class Results:
    """Everything measured so far that can be compared.

    A round that was not finished is left out, since its lengths would not have met the same
    machine; so is an unfinished repeat of a workload, unless it is the first.

    Args:
        plan: what was to be measured.
        answers: what was.
    """

    def __init__(self, plan: Plan, answers: Iterable[Answer]) -> None:
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
        """All of them, as measured."""
        return list(self._runs.values())

    @property
    def settings(self) -> list[tuple[float, str]]:
        """Temperature and workload of what was measured, temperatures together."""
        found = list(dict.fromkeys((temperature, name) for temperature, name, _ in self._runs))
        order = list(dict.fromkeys(temperature for temperature, _ in found))
        return sorted(found, key=lambda setting: order.index(setting[0]))

    def run(self, temperature: float, workload: str, n_draft: int | None) -> Run:
        """One of them."""
        return self._runs[temperature, workload, n_draft]

    def speedup(self, run: Run) -> float:
        """Against no drafting, on the same prompts in the same run."""
        return run.rate / self.run(run.temperature, run.workload, 0).rate

    def mean_speedup(self, temperature: float, n_draft: int | None) -> float:
        """The geometric mean over workloads."""
        return geometric_mean(
            self.speedup(run)
            for run in self.runs
            if run.temperature == temperature and run.n_draft == n_draft
        )

    def best_fixed(self, temperature: float, workload: str) -> Run:
        """The fastest fixed length, 0 among them.

        It is the best of several measured values, so noise favours it over any single one.
        """
        fixed = [self.run(temperature, workload, n) for n in self.lengths if n is not None]
        return max(fixed, key=lambda run: run.rate)

    def pooled(self, temperature: float, n_draft: int | None) -> Stats:
        """All workloads together, each with the weight of its time."""
        runs = (r for r in self.runs if r.temperature == temperature and r.n_draft == n_draft)
        return _pooled(answer for run in runs for answer in run.answers)


def _repeats(plan: Plan, answers: Iterable[Answer]) -> dict[tuple[float, str], list[list[Answer]]]:
    """Answers by temperature and workload, then by repeat; only what can be compared."""
    rounds: dict[tuple[float, str, int, int], list[Answer]] = defaultdict(list)
    for answer in answers:
        rounds[answer.temperature, answer.workload, answer.repeat, answer.prompt].append(answer)
    repeats: dict[tuple[float, str, int], list[list[Answer]]] = defaultdict(list)
    for (temperature, workload, repeat, _), found in rounds.items():
        if len(found) == len(plan.lengths):
            repeats[temperature, workload, repeat].append(found)
    counted: dict[tuple[float, str], list[list[Answer]]] = defaultdict(list)
    for (temperature, workload, repeat), whole in repeats.items():
        if repeat == 0 or len(whole) == len(plan.workloads[workload]):
            counted[temperature, workload].append([a for found in whole for a in found])
    return counted


def _run(
    workload: str, n_draft: int | None, temperature: float, repeats: Sequence[Sequence[Answer]]
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


def _pooled(answers: Iterable[Answer]) -> Stats:
    """Several answers as if they were one, so that rates are divided where all rates are."""
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
