"""Measures several answers decoded concurrently, with and without drafting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from statistics import median
from time import perf_counter

from localmtp.bench.report import Setup, Table, machine_as_json
from localmtp.bench.results import label
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.events import Generated, Origin
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.errors import LocalmtpError

_ANSWERS = 2
"""Answers per concurrent one: finished answers are replaced."""


@dataclass(frozen=True, slots=True)
class ConcurrencyPlan:
    """Prompts, numbers of answers and draft lengths of a measurement."""

    prompts: Sequence[Sequence[int]]
    """Token ids, used in turn."""
    counts: Sequence[int]
    """Numbers of concurrent answers."""
    lengths: Sequence[int | None]
    """Draft lengths; None is automatic pacing, 0 no drafting."""
    sampling: SamplingParams
    max_tokens: int
    repeats: int


@dataclass(frozen=True, slots=True)
class ConcurrencyRun:
    """One number of concurrent answers at one draft length."""

    count: int
    n_draft: int | None
    repeat: int
    tokens: int
    """Decoded while all answers were running and no prompt was being processed."""
    seconds: float
    passes: int
    drafted: int
    accepted: int

    @property
    def rate(self) -> float:
        """Decoded tokens per second of all answers together."""
        return self.tokens / self.seconds if self.seconds else 0.0


def measure_concurrency(pair: Pair, plan: ConcurrencyPlan) -> Iterator[ConcurrencyRun]:
    """Yield runs as they finish; the iterator may be closed at any point.

    For each number of answers, all draft lengths run in succession, in an order that rotates.

    Args:
        pair: loaded with a sequence for each of the most answers; the caller closes it.
        plan: what to measure.

    Raises:
        LocalmtpError: a pass failed.
    """
    decoder, lengths = _ConcurrentDecoder(pair, plan), plan.lengths
    for length in lengths:
        decoder.decode(plan.counts[0], length, 0)  # warm up
    for repeat, (turn, count) in product(range(plan.repeats), enumerate(plan.counts)):
        for i in range(len(lengths)):
            yield decoder.decode(count, lengths[(i + turn + repeat) % len(lengths)], repeat)


class _ConcurrentDecoder:
    """Decodes answers concurrently; pacing retains what it learned between runs."""

    def __init__(self, pair: Pair, plan: ConcurrencyPlan) -> None:
        self._plan = plan
        self._loop = pair.decode_loop()

    def decode(self, count: int, n_draft: int | None, repeat: int) -> ConcurrencyRun:
        """Decode until an answer ends and no prompt is left to replace it."""
        loop, plan = self._loop, self._plan
        waiting = list(islice(cycle(plan.prompts), repeat, repeat + _ANSWERS * count))
        tokens, seconds, passes = 0, 0.0, 0
        drafted: list[tuple[int, int]] = []
        while True:
            while waiting and loop.active < count:
                loop.start(
                    GenerationRequest(
                        waiting.pop(), plan.sampling, n_draft=n_draft, max_tokens=plan.max_tokens
                    )
                )
            if loop.active < count:
                break
            counts = loop.decoding == count
            began = perf_counter()
            outputs = loop.step()
            if counts:
                seconds += perf_counter() - began
                passes += 1
            for _, event in outputs:
                if isinstance(event, LocalmtpError):
                    raise event
                if counts and isinstance(event, Generated):
                    tokens += len(event.pieces)
                    accepted = sum(piece.origin is Origin.DRAFT for piece in event.pieces)
                    drafted.append((len(event.drafted), accepted))
        loop.cancel_all()
        sums = [sum(column) for column in zip((0, 0), *drafted, strict=True)]
        return ConcurrencyRun(count, n_draft, repeat, tokens, seconds, passes, *sums)


class ConcurrencyResults:
    """Medians over repeats, and speedups over no drafting.

    Runs in which the answers never decoded together, because the first ended before the last began,
    are left out, and numbers of answers that were not measured at every length.

    Args:
        lengths: the planned draft lengths.
        runs: as measured.
    """

    def __init__(self, lengths: Sequence[int | None], runs: Iterable[ConcurrencyRun]) -> None:
        self._found: dict[tuple[int, int | None], list[ConcurrencyRun]] = defaultdict(list)
        for run in runs:
            if run.passes:
                self._found[run.count, run.n_draft].append(run)
        counts = dict.fromkeys(count for count, _ in self._found)
        self.lengths = list(lengths)
        self.counts = [c for c in counts if all((c, n) in self._found for n in lengths)]

    def rate(self, count: int, n_draft: int | None) -> float:
        """Return decoded tokens per second of all answers together, the median over repeats."""
        return median(run.rate for run in self._found[count, n_draft])

    def as_json(self, setup: Setup) -> dict[str, object]:
        """Return the object that `bench concurrency --json` prints."""
        runs = [
            {
                "at_once": count,
                "n_draft": label(length),
                "decode_tokens_per_s": self.rate(count, length),
                "decode_tokens_per_s_range": [
                    min(run.rate for run in listed),
                    max(run.rate for run in listed),
                ],
                "speedup": self.rate(count, length) / self.rate(count, 0),
                "tokens_per_pass": _per(listed, "tokens", "passes") / count,
                "draft_length_mean": _per(listed, "drafted", "passes") / count,
                "acceptance_rate": _per(listed, "accepted", "drafted"),
                "repeats": len(listed),
            }
            for count in self.counts
            for length in self.lengths
            for listed in [self._found[count, length]]
        ]
        return {**machine_as_json(setup), "concurrency": runs}

    def tables(self) -> Iterator[Table]:
        """Yield tables of speed, speedup and draft length."""
        names = tuple("none" if n == 0 else label(n) for n in self.lengths)
        head = ("answers", *names)

        def rows(cell: Callable[[int, int | None], str]) -> tuple[tuple[str, ...], ...]:
            return tuple((str(c), *(cell(c, n) for n in self.lengths)) for c in self.counts)

        yield Table(
            "Decode tok/s, all answers together", head, rows(lambda c, n: f"{self.rate(c, n):.1f}")
        )
        yield Table(
            "Speedup over no drafting",
            head,
            rows(lambda c, n: f"{self.rate(c, n) / self.rate(c, 0):.2f}×"),
        )
        yield Table(
            "Draft length per answer",
            head,
            rows(lambda c, n: f"{_per(self._found[c, n], 'drafted', 'passes') / c:.1f}"),
        )


def _per(runs: Iterable[ConcurrencyRun], amount: str, of: str) -> float:
    """Return the ratio of two fields, each summed over the runs; 0 if the second is 0."""
    listed = list(runs)
    divisor = sum(getattr(run, of) for run in listed)
    return sum(getattr(run, amount) for run in listed) / divisor if divisor else 0.0
