"""Stored results of `localmtp bench`, for comparing versions on the same machine."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from localmtp.atomic import atomic_write_text
from localmtp.bench.report import Table
from localmtp.errors import LocalmtpError

_FIELDS = ("model", "version", "when", "machine", "runs")
"""Fields that a report must have to be compared."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A report as `bench run --json` prints it."""

    path: Path
    report: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Version and local time, such as `0.1.0 of 2026-11-25 02:13`."""
        when = datetime.fromisoformat(self.report["when"]).astimezone()
        return f"{self.report['version']} of {when:%Y-%m-%d %H:%M}"

    def is_about(self, names: Collection[str]) -> bool:
        """Return whether the model has one of these names, with or without its quantization."""
        model = str(self.report["model"])
        return model in names or model.partition(":")[0] in names

    def rates(self) -> dict[tuple[str, float, str], float]:
        """Return decoded tokens per second by workload, temperature and draft length."""
        return {
            (run["workload"], run["temp"], run["n_draft"]): run["decode_tokens_per_s"]
            for run in self.report["runs"]
        }


def store_result(report: Mapping[str, Any], folder: Path) -> None:
    """Store a report, named after its time and model.

    Raises:
        LocalmtpError: the folder cannot be written to.
    """
    stem = re.sub(r"[^\w.-]+", "-", f"{report['when']}-{report['model']}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalmtpError(f"cannot create {folder}: {error.strerror}") from error
    atomic_write_text(folder / f"{stem}.json", json.dumps(report, ensure_ascii=False))


def stored_results(model: str, folder: Path) -> list[StoredResult]:
    """Return the stored reports of a model, latest first.

    Args:
        model: as the user wrote it; without a quantization, those of all quantizations.
        folder: where they are stored.

    Damaged files are left out.
    """
    found = []
    for path in folder.glob("*.json"):
        with suppress(LocalmtpError):
            found.append(read_result(path))
    names = (model, Path(model).name)
    about = [result for result in found if result.is_about(names)]
    return sorted(about, key=lambda result: str(result.report["when"]), reverse=True)


def read_result(path: Path) -> StoredResult:
    """Read a report that was stored, or printed by `bench run --json`.

    Raises:
        LocalmtpError: the file cannot be read, or is not such a report.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise LocalmtpError(
            f"cannot read {path}: {error.strerror}",
            hint="check the path; `localmtp bench MODEL --json > FILE` writes one",
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "not a text file" if isinstance(error, UnicodeDecodeError) else str(error)
        raise LocalmtpError(f"{path} is not a result of `localmtp bench`: {reason}") from error
    if reason := _damage(report):
        raise LocalmtpError(f"{path} is not a result of `localmtp bench`: {reason}")
    return StoredResult(path, report)


def _damage(report: object) -> str:
    """Return why a report cannot be compared; empty if it can."""
    if not isinstance(report, dict):
        return "it is not a JSON object"
    if missing := [name for name in _FIELDS if name not in report]:
        return f"{', '.join(missing)} missing"
    machine, runs = report["machine"], report["runs"]
    if not (isinstance(machine, dict) and {"cpu", "threads"} <= machine.keys()):
        return "its `machine` is damaged"
    if not (isinstance(runs, list) and runs and all(map(_is_run, runs))):
        return "its `runs` are damaged"
    try:
        datetime.fromisoformat(report["when"]).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return "its `when` is not a time"
    return ""


def _is_run(run: object) -> bool:
    return (
        isinstance(run, dict)
        and isinstance(run.get("workload"), str)
        and isinstance(run.get("n_draft"), str)
        and all(
            isinstance(value := run.get(name), int | float) and 0 <= value < inf
            for name in ("temp", "decode_tokens_per_s")
        )
    )


def history(results: list[StoredResult]) -> Table:
    """Return one row per result: mean tokens per second without drafting, and mean speedups."""
    lengths = list(dict.fromkeys(n for each in results for _, _, n in each.rates() if n != "0"))
    rows = tuple(
        (
            each.name,
            each.report["machine"]["cpu"],
            str(each.report["machine"]["threads"]),
            f"{_mean(each, '0'):.1f}",
            *(
                f"{_mean(each, n) / _mean(each, '0'):.2f}×"
                if _mean(each, n) and _mean(each, "0")
                else ""
                for n in lengths
            ),
        )
        for each in results
    )
    return Table("Mean tok/s and speedups", ("version", "cpu", "threads", "none", *lengths), rows)


def ratios(earlier: StoredResult, now: StoredResult) -> dict[tuple[str, float, str], float]:
    """Return new by old tokens per second, by workload, temperature and draft length.

    Raises:
        LocalmtpError: the two have no workload and draft length in common.
    """
    old = earlier.rates()
    both = {key: rate / old[key] for key, rate in now.rates().items() if rate and old.get(key)}
    if not both:
        raise LocalmtpError(f"{earlier.path} has no workload and draft length in common with this")
    return both


def comparison(earlier: StoredResult, now: StoredResult) -> Table:
    """Return the ratios as a table, with geometric means.

    Raises:
        LocalmtpError: the two have no workload and draft length in common.
    """
    found = ratios(earlier, now)
    lengths = list(dict.fromkeys(n for _, _, n in found))
    rows = []
    for workload, temperature in dict.fromkeys((w, t) for w, t, _ in found):
        keys = [(workload, temperature, n) for n in lengths]
        cells = [f"{found[key]:.2f}×" if key in found else "" for key in keys]
        rows.append((workload if temperature == 0 else f"{workload} at {temperature:g}", *cells))
    means = [geometric_mean(r for (_, _, m), r in found.items() if m == n) for n in lengths]
    rows.append(("mean", *(f"{mean:.2f}×" for mean in means)))
    head = ("workload", *("none" if n == "0" else n for n in lengths))
    return Table(f"Speed relative to {earlier.name}", head, tuple(rows))


def _mean(result: StoredResult, n_draft: str) -> float:
    """Return the geometric mean of greedy rates over workloads; 0 if there are none."""
    rates = [rate for (_, t, n), rate in result.rates().items() if t == 0 and n == n_draft and rate]
    return geometric_mean(rates) if rates else 0.0
