"""Write docs/measured.md from results of `localmtp bench --json`; nothing else gets into it.

python docs/measured.py RESULT.json... > docs/measured.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localmtp.bench.result_store import Kept, read

_HEAD = """# Measured

Written by `docs/measured.py` from what `localmtp bench --json` printed; [bench](bench.md) says how
it measures. Tokens per second of decoding, greedy unless it is said; in brackets the speedup over
no drafting. The spread is half the range over repeats where it is largest. The machine behind these
figures flips between speeds that are a factor of up to two apart; medians of nine repeats say more
than the spread does.
"""


def main() -> None:
    """Print the page."""
    print(_HEAD)
    for path in map(Path, sys.argv[1:]):
        report = json.loads(path.read_text("utf-8"))
        section = _together(report) if "concurrency" in report else _section(read(path))
        print("\n".join(section))


def _together(report: Mapping[str, Any]) -> Iterator[str]:
    """Several answers at once."""
    yield f"## {report['model']}, several answers at once\n"
    yield f"{_machine(report)}; tokens per second of all answers together.\n"
    runs = {(run["at_once"], run["n_draft"]): run for run in report["concurrency"]}
    lengths = list(dict.fromkeys(n for _, n in runs))
    yield _row("at once", *("none" if n == "0" else n for n in lengths), "spread")
    yield _row("---", *("---:" for _ in lengths), "---:")
    for size in dict.fromkeys(size for size, _ in runs):
        of_size = [runs[size, n] for n in lengths]
        yield _row(str(size), *map(_cell, of_size), _spread(of_size))
    yield ""


def _machine(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    return ", ".join([machine["cpu"], f"{machine['threads']} threads", *machine["devices"]])


def _spread(runs: Sequence[Mapping[str, Any]]) -> str:
    """Half the range over repeats, relative to the median, where it is largest."""
    ranges = ((run["decode_tokens_per_s_range"], run["decode_tokens_per_s"]) for run in runs)
    return f"±{max((most - least) / 2 / rate for (least, most), rate in ranges):.0%}"


def _section(result: Kept) -> Iterator[str]:
    """One model on one machine."""
    report = result.report
    yield f"## {report['model']}\n"
    if report.get("synthetic"):
        yield "Expected, not measured: computed from what rounds of drafting cost.\n"
    yield f"{_machine(report)}; localmtp {result.name}.\n"
    for temperature in dict.fromkeys(run["temp"] for run in report["runs"]):
        if temperature:
            yield f"At temperature {temperature:g}:\n"
        runs = [run for run in report["runs"] if run["temp"] == temperature]
        yield from _by_workload(runs, measured=not report.get("synthetic"))


def _by_workload(found: Sequence[Mapping[str, Any]], *, measured: bool) -> Iterator[str]:
    lengths = list(dict.fromkeys(run["n_draft"] for run in found))
    head = ["none" if n == "0" else n for n in lengths]
    yield _row("workload", *head, "accepted of 3", "spread")
    yield _row("---", *("---:" for _ in lengths), "---:", "---:")
    for workload in dict.fromkeys(run["workload"] for run in found):
        runs = {run["n_draft"]: run for run in found if run["workload"] == workload}
        accepted = f"{runs['3']['acceptance_rate']:.0%}" if "3" in runs else ""
        spread = _spread(list(runs.values())) if measured and runs["0"]["repeats"] > 1 else ""
        yield _row(workload, *(_cell(runs[n]) for n in lengths), accepted, spread)
    yield ""


def _cell(run: Mapping[str, Any]) -> str:
    rate = f"{run['decode_tokens_per_s']:.1f}"
    return rate if run["n_draft"] == "0" else f"{rate} ({run['speedup']:.2f})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
