"""Results of `bench` over time: each is kept, and later ones are compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli.output import line
from localmtp.cli.table import table
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.report import Table
    from localmtp.bench.result_store import Kept

LATEST = "latest"
"""`--compare` without a file."""


def show_history(model: str) -> None:
    """Print what was measured of a model so far.

    Raises:
        LocalmtpError: nothing, or a kept file is damaged.
    """
    from localmtp.bench.result_store import history

    shown = history(_kept(model))
    line(shown.title)
    table(shown.head, shown.rows)


def earlier(model: str, asked: str) -> Kept:
    """The result to compare with.

    Args:
        model: as the user wrote it.
        asked: a file, or `LATEST`.

    Raises:
        LocalmtpError: there is none, or it is damaged.
    """
    from localmtp.bench.result_store import read

    return _kept(model)[0] if asked == LATEST else read(Path(asked))


def compared(report: dict[str, Any], before: Kept | None) -> list[Table]:
    """Keep a result; compare it, in the report as well, if there is one to compare with.

    Raises:
        LocalmtpError: the two have nothing in common.
    """
    from localmtp.bench.result_store import Kept, comparison, keep, ratios
    from localmtp.paths import bench_results

    try:
        keep(report, bench_results())
    except LocalmtpError as error:
        click.echo(f"warning: {error.message}", err=True)
    if before is None:
        return []
    now = Kept(bench_results(), report)
    if before.report["machine"] != report["machine"]:
        click.echo(f"warning: {before.name} was measured on another machine", err=True)
    found = ratios(before, now)
    report["compared"] = {
        "version": before.report["version"],
        "when": before.report["when"],
        "runs": [
            {"workload": w, "temp": t, "n_draft": n, "decode_tokens_per_s_ratio": ratio}
            for (w, t, n), ratio in found.items()
        ],
    }
    return [comparison(before, now)]


def _kept(model: str) -> list[Kept]:
    from localmtp.bench.result_store import kept
    from localmtp.paths import bench_results

    found = kept(model, bench_results())
    if not found:
        raise LocalmtpError(
            f"there is no earlier result for {model}",
            hint=f"measure it first: localmtp bench {model}",
        )
    return found
