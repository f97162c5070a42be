"""How the gain from drafting shrinks when several answers are decoded at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from statistics import median
from time import perf_counter

from localmtp.bench.report import Setting, Table, machine_as_json
from localmtp.bench.results import label
from localmtp.engine.decoding.batching import Batching
from localmtp.engine.decoding.drafter import NoDrafter
from localmtp.engine.decoding.generate import Generation
from localmtp.engine.events import Generated, Origin
from localmtp.engine.pacing import FixedPacing, Learned, Pacing, SharedPacing
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer
from localmtp.errors import LocalmtpError

_ANSWERS = 2
"""For each that is decoded at once: as some end, others take their places."""


@dataclass(frozen=True, slots=True)
class Crowds:
    """What is to be measured."""

    prompts: Sequence[Sequence[int]]
    """Token ids; taken in turn."""
    sizes: Sequence[int]
    """How many answers are decoded at once."""
    lengths: Sequence[int | None]
    """Draft lengths; None is automatic pacing, 0 is no drafting."""
    sampling: SamplingParams
    max_tokens: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many answers decoded at once, with one draft length."""

    size: int
    n_draft: int | None
    repeat: int
    tokens: int
    """Decoded while all of them ran and no prompt was read."""
    seconds: float
    passes: int
    drafted: int
    accepted: int

    @property
    def rate(self) -> float:
        """Tokens per second, of all answers together."""
        return self.tokens / self.seconds if self.seconds else 0.0


def measure_crowds(pair: Pair, crowds: Crowds) -> Iterator[Crowd]:
    """Measure, yielding each figure when it is there; may be abandoned at any point.

    At every size all lengths follow each other directly, in an order that is rotated.

    Args:
        pair: loaded with room for the largest size; stays the caller's to close.
        crowds: what to measure.

    Raises:
        LocalmtpError: a pass failed.
    """
    place, lengths = _Place(pair, crowds), crowds.lengths
    for length in lengths:
        place.decode(crowds.sizes[0], length, 0)  # warm up
    for repeat, (turn, size) in product(range(crowds.repeats), enumerate(crowds.sizes)):
        for i in range(len(lengths)):
            yield place.decode(size, lengths[(i + turn + repeat) % len(lengths)], repeat)


class _Place:
    """Where crowds are decoded; pacing keeps what it learns from one to the next."""

    def __init__(self, pair: Pair, crowds: Crowds) -> None:
        self._pair = pair
        self._crowds = crowds
        self._pacing, self._learned = SharedPacing(pair.target.threads.now), Learned()
        self._batching = Batching(pair.targets, pair.mtp, self._pacing)

    def decode(self, size: int, n_draft: int | None, repeat: int) -> Crowd:
        """Decode until an answer has ended that no other can replace."""
        batching = self._batching
        waiting = list(islice(cycle(self._crowds.prompts), repeat, repeat + _ANSWERS * size))
        tokens, seconds, passes = 0, 0.0, 0
        drafted: list[tuple[int, int]] = []
        while True:
            while waiting and batching.answers < size:
                self._begin(waiting.pop(), n_draft)
            if batching.answers < size:
                break
            counts = batching.decoding == size
            began = perf_counter()
            happened = batching.step()
            if counts:
                seconds += perf_counter() - began
                passes += 1
            for _, what in happened:
                if isinstance(what, LocalmtpError):
                    raise what
                if counts and isinstance(what, Generated):
                    tokens += len(what.pieces)
                    kept = sum(piece.origin is Origin.DRAFT for piece in what.pieces)
                    drafted.append((len(what.drafted), kept))
        batching.give_up()
        sums = [sum(column) for column in zip((0, 0), *drafted, strict=True)]
        return Crowd(size, n_draft, repeat, tokens, seconds, passes, *sums)

    def _begin(self, prompt: Sequence[int], n_draft: int | None) -> None:
        pacing: Pacing = FixedPacing(n_draft or 0)
        if n_draft is None:
            pacing = self._pacing.answer(self._learned)
        generation = Generation(
            target=self._batching.sequence_for(prompt),
            drafter=NoDrafter(),  # the batch drafts for all
            sampler=make_sampler(self._crowds.sampling),
            pacing=pacing,
            reader=Detokenizer(self._pair.target.vocab),
            counters=Counters(),
            max_tokens=self._crowds.max_tokens,
            cancelled=lambda: False,
        )
        self._batching.add(generation, prompt)


class Concurrency:
    """Everything measured: medians over repeats, compared with no drafting.

    Sizes that were not measured at every length are left out.

    Args:
        lengths: that were to be measured.
        crowds: what was.
    """

    def __init__(self, lengths: Sequence[int | None], crowds: Iterable[Crowd]) -> None:
        self._found: dict[tuple[int, int | None], list[Crowd]] = defaultdict(list)
        for crowd in crowds:
            self._found[crowd.size, crowd.n_draft].append(crowd)
        sizes = dict.fromkeys(size for size, _ in self._found)
        self.lengths = list(lengths)
        self.sizes = [size for size in sizes if all((size, n) in self._found for n in lengths)]

    def rate(self, size: int, n_draft: int | None) -> float:
        """Tokens per second of all answers together, the median over repeats."""
        return median(crowd.rate for crowd in self._found[size, n_draft])

    def as_json(self, where: Setting) -> dict[str, object]:
        """One object; a run for every size and length."""
        runs = [
            {
                "at_once": size,
                "n_draft": label(length),
                "decode_tokens_per_s": self.rate(size, length),
                "decode_tokens_per_s_range": [
                    min(crowd.rate for crowd in listed),
                    max(crowd.rate for crowd in listed),
                ],
                "speedup": self.rate(size, length) / self.rate(size, 0),
                "tokens_per_pass": _per(listed, "tokens", "passes") / size,
                "draft_length_mean": _per(listed, "drafted", "passes") / size,
                "acceptance_rate": _per(listed, "accepted", "drafted"),
                "repeats": len(listed),
            }
            for size in self.sizes
            for length in self.lengths
            for listed in [self._found[size, length]]
        ]
        return {**machine_as_json(where), "concurrency": runs}

    def tables(self) -> Iterator[Table]:
        """Speed, what drafting did for it, and how long the drafts were."""
        names = tuple("none" if n == 0 else label(n) for n in self.lengths)
        head = ("at once", *names)

        def rows(cell: Callable[[int, int | None], str]) -> tuple[tuple[str, ...], ...]:
            return tuple((str(s), *(cell(s, n) for n in self.lengths)) for s in self.sizes)

        yield Table(
            "Tokens/s, all answers together", head, rows(lambda s, n: f"{self.rate(s, n):.1f}")
        )
        yield Table(
            "Speedup over no drafting",
            head,
            rows(lambda s, n: f"{self.rate(s, n) / self.rate(s, 0):.2f}"),
        )
        yield Table(
            "Draft tokens per answer and pass",
            head,
            rows(lambda s, n: f"{_per(self._found[s, n], 'drafted', 'passes') / s:.1f}"),
        )


def _per(crowds: Iterable[Crowd], amount: str, of: str) -> float:
    listed = list(crowds)
    below = sum(getattr(crowd, of) for crowd in listed)
    return sum(getattr(crowd, amount) for crowd in listed) / below if below else 0.0
