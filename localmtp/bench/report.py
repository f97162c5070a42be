"""Results as tables, JSON and Markdown."""

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
    """Figures lined up, as words."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What was measured, and where."""

    model: str
    drafter: str
    cpu: str
    threads: int
    devices: tuple[str, ...]
    hardware: Hardware


def machine_as_json(setting: Setting) -> dict[str, object]:
    """What every report says about model, machine, version and time."""
    return {
        "model": setting.model,
        "drafter": setting.drafter,
        "machine": {
            "cpu": setting.cpu,
            "threads": setting.threads,
            "devices": list(setting.devices),
        },
        "memory": setting.hardware.as_dict(),
        "version": __version__,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_json(setting: Setting, results: Results) -> dict[str, object]:
    """The object of the command line's contract."""
    best = {_key(results, *s): results.best_fixed(*s) for s in results.settings}
    auto = {_key(results, *s): results.run(*s, None) for s in results.settings if _paced(results)}
    return {
        **machine_as_json(setting),
        "runs": [_as_json(setting, results, run) for run in results.runs],
        "best_fixed": {key: run.n_draft for key, run in best.items()},
        "auto_vs_best_fixed": {key: run.rate / best[key].rate for key, run in auto.items()},
        "auto_vs_none": {key: results.speedup(run) for key, run in auto.items()},
    }


def _as_json(setting: Setting, results: Results, run: Run) -> dict[str, object]:
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
        "bandwidth_share": _share(setting, stats),
    }


def tables(setting: Setting, results: Results) -> Iterator[Table]:
    """Speed, what drafting did for it, and where the time went; for each temperature."""
    for temperature, group in groupby(results.settings, key=lambda setting: setting[0]):
        workloads = [workload for _, workload in group]
        said = "greedy" if temperature == 0 else f"temperature {temperature:g}"
        rows = [[results.run(temperature, w, n) for n in results.lengths] for w in workloads]
        lengths = tuple("none" if n == 0 else label(n) for n in results.lengths)
        speed = tuple(
            (w, *(f"{run.rate:.1f}" for run in runs), f"±{_spread(runs):.0%}")
            for w, runs in zip(workloads, rows, strict=True)
        )
        yield Table(f"Tokens/s, {said}", ("workload", *lengths, "spread"), speed)
        yield _speedups(results, temperature, workloads)
        drafted = [i for i, n in enumerate(results.lengths) if n != 0]
        if not drafted:
            continue
        head = ("workload", *(lengths[i] for i in drafted))
        for title, field, form in (
            ("Drafts accepted", "acceptance_rate", "{:.0%}"),
            ("Tokens per pass", "tokens_per_pass", "{:.2f}"),
        ):
            cells = [[form.format(getattr(runs[i].stats, field)) for i in drafted] for runs in rows]
            listed = tuple((w, *c) for w, c in zip(workloads, cells, strict=True))
            yield Table(f"{title}, {said}", head, listed)
        yield _by_position(results, temperature, workloads, said)
        yield _time(setting, results, temperature, said)


def _speedups(results: Results, temperature: float, workloads: Sequence[str]) -> Table:
    """Against no drafting, with automatic pacing against the best fixed length."""
    rows = []
    for workload in workloads:
        best = results.best_fixed(temperature, workload)
        row = [
            f"{results.speedup(results.run(temperature, workload, n)):.2f}" for n in results.lengths
        ]
        row.append("none" if best.n_draft == 0 else best.label)
        if _paced(results):
            row.append(f"{results.run(temperature, workload, None).rate / best.rate:.2f}")
        rows.append((workload, *row))
    mean = [f"{results.mean_speedup(temperature, n):.2f}" for n in results.lengths]
    rest = [""] * (2 if _paced(results) else 1)
    rows.append(("mean", *mean, *rest))
    head = ["workload", *("none" if n == 0 else label(n) for n in results.lengths), "best fixed"]
    return Table(
        "Speedup over no drafting",
        tuple([*head, "auto/best"] if _paced(results) else head),
        tuple(rows),
    )


def _by_position(
    results: Results, temperature: float, workloads: Sequence[str], said: str
) -> Table:
    """At the longest fixed length, where every position is reached most often."""
    longest = max((n for n in results.lengths if n), default=None)
    rows = []
    for workload in workloads:
        stats = results.run(temperature, workload, longest).stats
        rates = [f"{rate:.0%}" for rate in stats.acceptance_by_position]
        rows.append((workload, *rates))
    width = max(map(len, rows))
    return Table(
        f"Accepted at each position of drafts of {label(longest)}, {said}",
        ("workload", *(str(i) for i in range(1, width))),
        tuple((*row, *[""] * (width - len(row))) for row in rows),
    )


def _time(setting: Setting, results: Results, temperature: float, said: str) -> Table:
    rows = []
    for n in results.lengths:
        stats = results.pooled(temperature, n)
        parts = asdict(stats.time).values()
        whole = sum(parts) or 1.0
        length = f"{stats.draft_length_mean:.1f}"
        shares = [f"{part / whole:.0%}" for part in parts]
        bandwidth = _share(setting, stats)
        shares.append(f"{bandwidth:.0%}" if bandwidth else "")
        rows.append((label(n) if n != 0 else "none", length, *shares))
    head = ("draft", "mean length", "drafting", "verifying", "sampling", "other", "bandwidth")
    return Table(f"Where the time goes, {said}", head, tuple(rows))


def memory_line(setting: Setting) -> str:
    """What the pair takes, in words."""
    used = setting.hardware
    line = f"memory: {_size(used.resident)}, of it the target's weights {_size(used.target)}"
    if used.drafter:
        line += f" and the drafter's {_size(used.drafter)}"
    if used.bandwidth:
        line += f"; it is read at {used.bandwidth / 1e9:.1f} GB/s at most"
    return line


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def _share(setting: Setting, stats: Stats) -> float:
    """Of the memory's bandwidth that reading weights took up while decoding."""
    passes = stats.target_passes or 1
    steps, round_s = stats.draft_steps / passes, stats.decode_s / passes
    return setting.hardware.share(stats.draft_length_mean, steps, round_s)


def as_markdown(setting: Setting, tables: Iterable[Table]) -> str:
    """A section for a model card or a forum post."""
    where = ", ".join((setting.cpu, f"{setting.threads} threads", *setting.devices))
    lines = [f"## {setting.model} with {setting.drafter or 'no drafter'}", "", where, ""]
    lines += [memory_line(setting), ""]
    for table in tables:
        rule = tuple("---" if i == 0 else "---:" for i in range(len(table.head)))
        lines += [f"### {table.title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (table.head, rule, *table.rows)] + [""]
    return "\n".join(lines)


def _spread(runs: Sequence[Run]) -> float:
    """Half the range over repeats in relation to the median, where it is largest."""
    return max((max(run.rates) - min(run.rates)) / 2 / run.rate for run in runs)


def _paced(results: Results) -> bool:
    return None in results.lengths


def _key(results: Results, temperature: float, workload: str) -> str:
    """The workload's name; with the temperature where it is not the first one's."""
    first = results.settings[0][0]
    return workload if temperature == first else f"{workload} at {temperature:g}"
