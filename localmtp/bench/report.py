"""Reports of `bench run`: tables, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby

from localmtp import __version__
from localmtp.bench.hardware import Hardware
from localmtp.bench.results import Results, Run, label
from localmtp.engine.stats import Stats


@dataclass(frozen=True, slots=True)
class Table:
    """A table of formatted cells."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """Model and machine of a measurement."""

    model: str
    drafter: str
    cpu: str
    threads: int
    devices: tuple[str, ...]
    hardware: Hardware
    device_sampling: tuple[str, ...] = ()
    """Kinds of answers whose tokens the device chooses."""


def machine_as_json(setup: Setup) -> dict[str, object]:
    """Return the fields of every report: model, machine, memory, version and time."""
    return {
        "model": setup.model,
        "drafter": setup.drafter,
        "machine": {
            "cpu": setup.cpu,
            "threads": setup.threads,
            "devices": list(setup.devices),
            "device_sampling": list(setup.device_sampling),
        },
        "memory": setup.hardware.as_dict(),
        "version": __version__,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_json(setup: Setup, results: Results) -> dict[str, object]:
    """Return the object that `bench run --json` prints."""
    best = {_key(results, *s): results.best_fixed(*s) for s in results.settings}
    auto = {_key(results, *s): results.run(*s, None) for s in results.settings if _paced(results)}
    return {
        **machine_as_json(setup),
        "runs": [_as_json(setup, results, run) for run in results.runs],
        "best_fixed": {key: run.n_draft for key, run in best.items()},
        "auto_vs_best_fixed": {key: run.rate / best[key].rate for key, run in auto.items()},
        "auto_vs_none": {key: results.speedup(run) for key, run in auto.items()},
    }


def _as_json(setup: Setup, results: Results, run: Run) -> dict[str, object]:
    stats = run.stats
    return {
        "workload": run.workload,
        "n_draft": run.label,
        "temp": run.temperature,
        "decode_tokens_per_s": run.rate,
        "decode_tokens_per_s_range": [min(run.rates), max(run.rates)],
        "speedup": results.speedup(run),
        "acceptance_rate": stats.acceptance_rate,
        "acceptance_by_position": list(stats.acceptance_by_position),
        "draft_length_mean": stats.draft_length_mean,
        "tokens_per_pass": stats.tokens_per_pass,
        "completion_tokens": run.completion_tokens,
        "repeats": len(run.rates),
        "time": asdict(stats.time),
        "bandwidth_share": _share(setup, stats),
    }


def tables(setup: Setup, results: Results) -> Iterator[Table]:
    """Yield tables of speed, speedup, acceptance and time, for each temperature."""
    for temperature, group in groupby(results.settings, key=lambda each: each[0]):
        workloads = [workload for _, workload in group]
        sampling = "greedy" if temperature == 0 else f"temperature {temperature:g}"
        rows = [[results.run(temperature, w, n) for n in results.lengths] for w in workloads]
        lengths = tuple("none" if n == 0 else label(n) for n in results.lengths)
        speed = tuple(
            (w, *(f"{run.rate:.1f}" for run in runs), f"±{_spread(runs):.0%}")
            for w, runs in zip(workloads, rows, strict=True)
        )
        yield Table(f"Decode tok/s, {sampling}", ("workload", *lengths, "spread"), speed)
        yield _speedups(results, temperature, workloads)
        drafted = [i for i, n in enumerate(results.lengths) if n != 0]
        if not drafted:
            continue
        head = ("workload", *(lengths[i] for i in drafted))
        for title, field, form in (
            ("Acceptance", "acceptance_rate", "{:.0%}"),
            ("Tokens per pass", "tokens_per_pass", "{:.2f}"),
        ):
            cells = [[form.format(getattr(runs[i].stats, field)) for i in drafted] for runs in rows]
            listed = tuple((w, *c) for w, c in zip(workloads, cells, strict=True))
            yield Table(f"{title}, {sampling}", head, listed)
        yield _by_position(results, temperature, workloads, sampling)
        yield _time(setup, results, temperature, sampling)


def _speedups(results: Results, temperature: float, workloads: Sequence[str]) -> Table:
    """Return speedups over no drafting, and of automatic pacing over the best fixed length."""
    rows = []
    for workload in workloads:
        best = results.best_fixed(temperature, workload)
        row = [
            f"{results.speedup(results.run(temperature, workload, n)):.2f}×"
            for n in results.lengths
        ]
        row.append("none" if best.n_draft == 0 else best.label)
        if _paced(results):
            row.append(f"{results.run(temperature, workload, None).rate / best.rate:.2f}")
        rows.append((workload, *row))
    mean = [f"{results.mean_speedup(temperature, n):.2f}×" for n in results.lengths]
    rest = [""] * (2 if _paced(results) else 1)
    rows.append(("mean", *mean, *rest))
    head = ["workload", *("none" if n == 0 else label(n) for n in results.lengths), "best fixed"]
    return Table(
        "Speedup over no drafting",
        tuple([*head, "auto/best"] if _paced(results) else head),
        tuple(rows),
    )


def _by_position(
    results: Results, temperature: float, workloads: Sequence[str], sampling: str
) -> Table:
    """Return acceptance by position at the longest fixed length, which reaches all positions."""
    longest = max((n for n in results.lengths if n), default=None)
    rows = []
    for workload in workloads:
        stats = results.run(temperature, workload, longest).stats
        rates = [f"{rate:.0%}" for rate in stats.acceptance_by_position]
        rows.append((workload, *rates))
    width = max(map(len, rows))
    return Table(
        f"Acceptance by position, draft length {label(longest)}, {sampling}",
        ("workload", *(str(i) for i in range(1, width))),
        tuple((*row, *[""] * (width - len(row))) for row in rows),
    )


def _time(setup: Setup, results: Results, temperature: float, sampling: str) -> Table:
    rows = []
    for n in results.lengths:
        stats = results.pooled(temperature, n)
        parts = asdict(stats.time).values()
        whole = sum(parts) or 1.0
        length = f"{stats.draft_length_mean:.1f}"
        shares = [f"{part / whole:.0%}" for part in parts]
        bandwidth = _share(setup, stats)
        shares.append(f"{bandwidth:.0%}" if bandwidth else "")
        rows.append((label(n) if n != 0 else "none", length, *shares))
    head = ("draft", "mean length", "draft", "verify", "sample", "other", "bandwidth")
    return Table(f"Share of decoding time, {sampling}", head, tuple(rows))


def memory_line(setup: Setup) -> str:
    """Return the pair's memory as one line."""
    used = setup.hardware
    line = f"memory: {_size(used.resident)}, target {_size(used.target)}"
    if used.drafter:
        line += f", drafter {_size(used.drafter)}"
    if used.bandwidth:
        line += f"; bandwidth {used.bandwidth / 1e9:.1f} GB/s"
    return line


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def _share(setup: Setup, stats: Stats) -> float:
    """Return the share of the memory bandwidth that reading weights took while decoding."""
    passes = stats.target_passes or 1
    steps, round_s = stats.draft_steps / passes, stats.decode_s / passes
    return setup.hardware.share(stats.draft_length_mean, steps, round_s)


def as_markdown(setup: Setup, tables: Iterable[Table]) -> str:
    """Return a section for a model card or a forum post."""
    where = ", ".join((setup.cpu, f"{setup.threads} threads", *setup.devices))
    lines = [f"## {setup.model} with {setup.drafter or 'no drafter'}", "", where, ""]
    lines += [memory_line(setup), ""]
    for table in tables:
        rule = tuple("---" if i == 0 else "---:" for i in range(len(table.head)))
        lines += [f"### {table.title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (table.head, rule, *table.rows)] + [""]
    return "\n".join(lines)


def _spread(runs: Sequence[Run]) -> float:
    """Return half the range over repeats, relative to the median, where it is largest."""
    return max((max(run.rates) - min(run.rates)) / 2 / run.rate for run in runs)


def _paced(results: Results) -> bool:
    return None in results.lengths


def _key(results: Results, temperature: float, workload: str) -> str:
    """Return the workload's name, with the temperature if it is not the first."""
    first = results.settings[0][0]
    return workload if temperature == first else f"{workload} at {temperature:g}"
