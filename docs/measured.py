"""Write docs/measured.md from results of `localmtp bench --json`; nothing else gets into it.

python docs/measured.py RESULT.json... > docs/measured.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from localmtp.bench.kept import Kept, read

_HEAD = """# Measured

Written by `docs/measured.py` from what `localmtp bench --json` printed; [bench](bench.md) says how
it measures. Tokens per second of decoding, greedy; in brackets the speedup over no drafting.
"""


def main() -> None:
    """Print the page."""
    print(_HEAD)
    for path in sys.argv[1:]:
        print("\n".join(_section(read(Path(path)))))


def _section(result: Kept) -> Iterator[str]:
    """One model on one machine."""
    report = result.report
    machine = report["machine"]
    where = ", ".join([machine["cpu"], f"{machine['threads']} threads", *machine["devices"]])
    yield f"## {report['model']}\n"
    if report.get("synthetic"):
        yield "Expected, not measured: computed from what rounds of drafting cost.\n"
    yield f"{where}; localmtp {result.name}.\n"
    greedy = [run for run in report["runs"] if run["temp"] == 0]
    lengths = list(dict.fromkeys(run["n_draft"] for run in greedy))
    yield _row("workload", *("none" if n == "0" else n for n in lengths), "accepted of 3")
    yield _row("---", *("---:" for _ in lengths), "---:")
    for workload in dict.fromkeys(run["workload"] for run in greedy):
        runs = {run["n_draft"]: run for run in greedy if run["workload"] == workload}
        accepted = f"{runs['3']['acceptance_rate']:.0%}" if "3" in runs else ""
        yield _row(workload, *(_cell(runs[n]) for n in lengths), accepted)
    yield ""


def _cell(run: Mapping[str, Any]) -> str:
    rate = f"{run['decode_tokens_per_s']:.1f}"
    return rate if run["n_draft"] == "0" else f"{rate} ({run['speedup']:.2f})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
