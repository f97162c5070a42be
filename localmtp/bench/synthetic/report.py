"""Expected speeds as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from localmtp.bench.report import Setting, Table, machine_as_json
from localmtp.bench.results import label
from localmtp.bench.synthetic.forecast import Forecast
from localmtp.bench.synthetic.survey import Costs


@dataclass(frozen=True, slots=True)
class Expected:
    """What was surveyed, and what follows from it."""

    costs: Costs
    lengths: Sequence[int | None]
    """Draft lengths; 0 is the first of them."""
    workloads: Mapping[str, Mapping[int | None, Forecast]]
    """By draft length."""

    def speedup(self, forecast: Forecast) -> float:
        """Against no drafting."""
        plain = self.workloads[forecast.workload][0]
        return forecast.tokens_per_s / plain.tokens_per_s

    def best_fixed(self, workload: str) -> Forecast:
        """The fastest fixed length, 0 among them."""
        fixed = [f for n, f in self.workloads[workload].items() if n is not None]
        return max(fixed, key=lambda forecast: forecast.tokens_per_s)


def as_json(setting: Setting, expected: Expected) -> dict[str, object]:
    """As `bench --json`; what was expected rather than measured says `synthetic`."""
    auto = {w: by[None] for w, by in expected.workloads.items() if None in by}
    best = {w: expected.best_fixed(w) for w in expected.workloads}
    return {
        **machine_as_json(setting),
        "synthetic": True,
        "runs": [
            {
                "workload": f.workload,
                "n_draft": label(f.n_draft),
                "temp": 0.0,
                "decode_tokens_per_s": f.tokens_per_s,
                "speedup": expected.speedup(f),
                "acceptance_rate": f.acceptance_rate,
                "tokens_per_pass": f.tokens_per_pass,
                "draft_length_mean": f.draft_length,
            }
            for by_length in expected.workloads.values()
            for f in by_length.values()
        ],
        "best_fixed": {w: f.n_draft for w, f in best.items()},
        "auto_vs_best_fixed": {w: f.tokens_per_s / best[w].tokens_per_s for w, f in auto.items()},
        "auto_vs_none": {w: expected.speedup(f) for w, f in auto.items()},
        "rounds": [
            {"n_draft": n, "draft_s": draft_s, "verify_s": verify_s, "rest_s": rest_s}
            for n, (draft_s, verify_s, rest_s) in enumerate(_parts(expected.costs))
        ],
    }


def tables(setting: Setting, expected: Expected) -> Iterator[Table]:
    """Speed, speedup, and what rounds cost."""
    lengths = tuple("none" if n == 0 else label(n) for n in expected.lengths)
    yield Table(
        "Tokens/s to expect",
        ("workload", *lengths),
        tuple(
            (name, *(f"{by[n].tokens_per_s:.1f}" for n in expected.lengths))
            for name, by in expected.workloads.items()
        ),
    )
    yield Table(
        "Speedup to expect over no drafting",
        ("workload", *lengths, *(("auto drafts",) if None in expected.lengths else ())),
        tuple(
            (
                name,
                *(f"{expected.speedup(by[n]):.2f}" for n in expected.lengths),
                *(f"{f.draft_length:.1f}" for n, f in by.items() if n is None),
            )
            for name, by in expected.workloads.items()
        ),
    )
    yield _rounds(setting, expected.costs)


def _rounds(setting: Setting, costs: Costs) -> Table:
    """Milliseconds of a round, and how much of the memory's speed it uses."""
    rows = []
    for n, parts in enumerate(_parts(costs)):
        whole = sum(parts)
        share = setting.hardware.share(n, n, whole)
        milliseconds = [f"{1000 * part:.1f}" for part in (*parts, whole)]
        relative = f"{whole / costs.round_s(0):.2f}"
        rows.append((str(n), *milliseconds, relative, f"{share:.0%}" if share else ""))
    head = ("draft", "drafting", "verifying", "other", "all", "to none", "bandwidth")
    return Table("Milliseconds of a round", head, tuple(rows))


def _parts(costs: Costs) -> Iterator[tuple[float, float, float]]:
    return zip(costs.draft_s, costs.verify_s, costs.rest_s, strict=True)
