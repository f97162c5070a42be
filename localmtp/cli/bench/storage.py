"""Stored results of `bench run`: storing one, finding earlier ones, comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localmtp.cli import output
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.report import Table
    from localmtp.bench.result_store import StoredResult


def results_of(model: str) -> list[StoredResult]:
    """Return the stored results of a model, latest first; at least one.

    Args:
        model: as the user wrote it.

    Raises:
        LocalmtpError: there is none.
    """
    from localmtp.bench.result_store import stored_results
    from localmtp.paths import bench_results

    found = stored_results(model, bench_results())
    if not found:
        raise LocalmtpError(
            f"there is no earlier result for {model}",
            hint=f"measure it first with `localmtp bench {model}`",
        )
    return found


def stored(report: dict[str, Any]) -> dict[str, Any]:
    """Store a result, or print a warning if that fails; return the report."""
    from localmtp.bench.result_store import store_result
    from localmtp.paths import bench_results

    try:
        store_result(report, bench_results())
    except LocalmtpError as error:
        output.warning(error.message)
    return report


def compared(report: dict[str, Any], earlier: StoredResult) -> Table:
    """Compare a result with an earlier one; the report gets the ratios as `compared`.

    Raises:
        LocalmtpError: the two have no workload and draft length in common.
    """
    from localmtp.bench.result_store import StoredResult, comparison, ratios
    from localmtp.paths import bench_results

    now = StoredResult(bench_results(), report)
    if earlier.report["machine"] != report["machine"]:
        output.warning(f"{earlier.name} was measured on another machine")
    table = comparison(earlier, now)
    report["compared"] = {
        "version": earlier.report["version"],
        "when": earlier.report["when"],
        "runs": [
            {"workload": w, "temp": t, "n_draft": n, "decode_tokens_per_s_ratio": ratio}
            for (w, t, n), ratio in ratios(earlier, now).items()
        ],
    }
    return table
