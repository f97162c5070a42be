"""`localmtp bench compare`: measure again, and compare with an earlier result."""

from __future__ import annotations

from pathlib import Path

import click

from localmtp.cli.bench.options import (
    ReportFlags,
    RunFlags,
    WorkloadFlags,
    answer_options,
    draft_lengths_option,
    report_options,
    run_options,
    workload_options,
)
from localmtp.cli.bench.run import measure_and_show
from localmtp.cli.bench.storage import results_of
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import GenerationFlags, PairFlags, pair_options


@click.command("compare", short_help="The same, compared with an earlier result.")
@click.argument("model", type=MODEL)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@pair_options
@draft_lengths_option
@answer_options
@workload_options
@run_options
@report_options
def command(
    model: str,
    file: Path | None,
    pair: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    run: RunFlags,
    report: ReportFlags,
) -> int:
    """Measure MODEL as `bench run` does, and compare with an earlier result.

    FILE is what `bench run --json` printed; without it the latest stored result is used.

    \b
        localmtp bench compare nano
        localmtp bench compare nano before.json --workload code
    """  # noqa: D301 - click reads the character
    from localmtp.bench.result_store import read_result

    earlier = read_result(file) if file else results_of(model)[0]
    return measure_and_show(
        model, pair, lengths, generation, workload, run, report, earlier=earlier
    )
