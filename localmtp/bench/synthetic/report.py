"""Reports of `bench synthetic`: tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from localmtp.bench.report import Setup, Table, machine_as_json
from localmtp.bench.results import label
from localmtp.bench.synthetic.forecast import Forecast
from localmtp.bench.synthetic.survey import RoundCosts


@dataclass(frozen=True, slots=True)
class ForecastReport:
    """Measured costs of rounds, and the speeds computed from them."""

    costs: RoundCosts
    lengths: Sequence[int | None]
    """Draft lengths; the first is 0."""
    workloads: Mapping[str, Mapping[int | None, Forecast]]
    """By workload and draft length."""

    def speedup(self, forecast: Forecast) -> float:
        """Return the expected speedup over no drafting."""
        plain = self.workloads[forecast.workload][0]
        return forecast.tokens_per_s / plain.tokens_per_s

    def best_fixed(self, workload: str) -> Forecast:
        """Return the forecast of the fastest fixed length, 0 included."""
        fixed = [f for n, f in self.workloads[workload].items() if n is not None]
        return max(fixed, key=lambda forecast: forecast.tokens_per_s)

    def as_json(self, setup: Setup) -> dict[str, object]:
        """Return the object that `bench synthetic --json` prints."""
        auto = {w: by[None] for w, by in self.workloads.items() if None in by}
        best = {w: self.best_fixed(w) for w in self.workloads}
        return {
            **machine_as_json(setup),
            "synthetic": True,
            "runs": [
                {
                    "workload": f.workload,
                    "n_draft": label(f.n_draft),
                    "temp": 0.0,
                    "decode_tokens_per_s": f.tokens_per_s,
                    "speedup": self.speedup(f),
                    "acceptance_rate": f.acceptance_rate,
                    "tokens_per_pass": f.tokens_per_pass,
                    "draft_length_mean": f.draft_length,
                }
                for by_length in self.workloads.values()
                for f in by_length.values()
            ],
            "best_fixed": {w: f.n_draft for w, f in best.items()},
            "auto_vs_best_fixed": {
                w: f.tokens_per_s / best[w].tokens_per_s for w, f in auto.items()
            },
            "auto_vs_none": {w: self.speedup(f) for w, f in auto.items()},
            "rounds": [
                {"n_draft": n, "draft_s": draft_s, "verify_s": verify_s, "rest_s": rest_s}
                for n, (draft_s, verify_s, rest_s) in enumerate(_parts(self.costs))
            ],
        }

    def tables(self, setup: Setup) -> Iterator[Table]:
        """Yield tables of speed, speedup and the cost of rounds."""
        lengths = tuple("none" if n == 0 else label(n) for n in self.lengths)
        yield Table(
            "Expected decode tok/s",
            ("workload", *lengths),
            tuple(
                (name, *(f"{by[n].tokens_per_s:.1f}" for n in self.lengths))
                for name, by in self.workloads.items()
            ),
        )
        yield Table(
            "Expected speedup over no drafting",
            ("workload", *lengths, *(("auto length",) if None in self.lengths else ())),
            tuple(
                (
                    name,
                    *(f"{self.speedup(by[n]):.2f}×" for n in self.lengths),
                    *(f"{f.draft_length:.1f}" for n, f in by.items() if n is None),
                )
                for name, by in self.workloads.items()
            ),
        )
        yield _rounds(setup, self.costs)


def _rounds(setup: Setup, costs: RoundCosts) -> Table:
    """Return milliseconds of a round by draft length, and its share of the memory bandwidth."""
    rows = []
    for n, parts in enumerate(_parts(costs)):
        total = sum(parts)
        share = setup.hardware.share(n, n, total)
        milliseconds = [f"{1000 * part:.1f}" for part in (*parts, total)]
        relative = f"{total / costs.round_s(0):.2f}"
        rows.append((str(n), *milliseconds, relative, f"{share:.0%}" if share else ""))
    head = ("draft length", "draft", "verify", "other", "total", "relative", "bandwidth")
    return Table("Milliseconds of a round", head, tuple(rows))


def _parts(costs: RoundCosts) -> Iterator[tuple[float, float, float]]:
    return zip(costs.draft_s, costs.verify_s, costs.rest_s, strict=True)
