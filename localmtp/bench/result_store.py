"""Every result of `bench`, kept, so that versions can be compared on the same machine."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from localmtp.atomic import atomic_write_text
from localmtp.bench.report import Table
from localmtp.errors import LocalmtpError

_FIELDS = ("model", "version", "when", "machine", "runs")
"""What a report must have to be compared."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A report as `bench --json` prints it."""

    path: Path
    report: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Version and local time, for people."""
        when = datetime.fromisoformat(self.report["when"]).astimezone()
        return f"{self.report['version']} of {when:%Y-%m-%d %H:%M}"

    def is_about(self, names: Collection[str]) -> bool:
        """Whether it has one of these names, with or without its quantization."""
        model = str(self.report["model"])
        return model in names or model.partition(":")[0] in names

    def rates(self) -> dict[tuple[str, float, str], float]:
        """Tokens per second by workload, temperature and draft length."""
        return {
            (run["workload"], run["temp"], run["n_draft"]): run["decode_tokens_per_s"]
            for run in self.report["runs"]
        }


def keep(report: Mapping[str, Any], folder: Path) -> None:
    """Keep a report.

    Raises:
        LocalmtpError: the folder cannot be written to.
    """
    stem = re.sub(r"[^\w.-]+", "-", f"{report['when']}-{report['model']}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalmtpError(f"cannot create {folder}: {error.strerror}") from error
    atomic_write_text(folder / f"{stem}.json", json.dumps(report, ensure_ascii=False))


def kept(model: str, folder: Path) -> list[Kept]:
    """The reports about a model, the latest first.

    Args:
        model: as the user wrote it; without a quantization all of them count.
        folder: where they are kept.

    Raises:
        LocalmtpError: one of the files is damaged.
    """
    found = [read(path) for path in folder.glob("*.json")]
    wanted = (model, Path(model).name)
    about = [each for each in found if each.is_about(wanted)]
    return sorted(about, key=lambda each: str(each.report["when"]), reverse=True)


def read(path: Path) -> Kept:
    """A report that was kept, or printed by `bench --json`.

    Raises:
        LocalmtpError: it is not there, or is something else.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise LocalmtpError(f"{path} is no result of `bench`: {error}") from error
    missing = [name for name in _FIELDS if not isinstance(report, dict) or name not in report]
    if missing:
        raise LocalmtpError(f"{path} is no result of `bench`: it lacks {', '.join(missing)}")
    return Kept(path, report)


def history(results: list[Kept]) -> Table:
    """One line for each result: mean tokens per second without drafting, and mean speedups."""
    lengths = list(dict.fromkeys(n for each in results for _, _, n in each.rates() if n != "0"))
    rows = tuple(
        (
            each.name,
            each.report["machine"]["cpu"],
            str(each.report["machine"]["threads"]),
            f"{_mean(each, '0'):.1f}",
            *(
                f"{_mean(each, n) / _mean(each, '0'):.2f}" if _mean(each, n) else ""
                for n in lengths
            ),
        )
        for each in results
    )
    return Table(
        "Mean tokens/s and speedups", ("version", "cpu", "threads", "none", *lengths), rows
    )


def ratios(before: Kept, now: Kept) -> dict[tuple[str, float, str], float]:
    """Tokens per second now by those before, by workload, temperature and draft length.

    Raises:
        LocalmtpError: nothing was measured by both.
    """
    old = before.rates()
    both = {key: rate / old[key] for key, rate in now.rates().items() if old.get(key)}
    if not both:
        raise LocalmtpError(f"{before.path} has no workload and draft length in common with this")
    return both


def comparison(before: Kept, now: Kept) -> Table:
    """The ratios, with their geometric means.

    Raises:
        LocalmtpError: nothing was measured by both.
    """
    found = ratios(before, now)
    lengths = list(dict.fromkeys(n for _, _, n in found))
    rows = []
    for workload, temperature in dict.fromkeys((w, t) for w, t, _ in found):
        keys = [(workload, temperature, n) for n in lengths]
        cells = [f"{found[key]:.2f}" if key in found else "" for key in keys]
        rows.append((workload if temperature == 0 else f"{workload} at {temperature:g}", *cells))
    means = [geometric_mean(r for (_, _, m), r in found.items() if m == n) for n in lengths]
    rows.append(("mean", *(f"{mean:.2f}" for mean in means)))
    head = ("workload", *("none" if n == "0" else n for n in lengths))
    return Table(f"Tokens/s in relation to {before.name}", head, tuple(rows))


def _mean(result: Kept, n_draft: str) -> float:
    """The geometric mean of greedy rates over workloads; 0 where there are none."""
    rates = [rate for (_, t, n), rate in result.rates().items() if t == 0 and n == n_draft]
    return geometric_mean(rates) if rates else 0.0
