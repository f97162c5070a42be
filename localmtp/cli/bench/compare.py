"""`localmtp bench compare`: measure, and compare with an earlier result or another engine."""

from __future__ import annotations

from pathlib import Path

import click

from localmtp.cli.bench.against import check_against, compare_engines
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
from localmtp.cli.flags.draft_length import DraftLengths
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import GenerationFlags, PairFlags, pair_options


@click.command("compare", short_help="Compared with an earlier result, or with another engine.")
@click.argument("model", type=MODEL)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--against",
    multiple=True,
    metavar="URL|PROGRAM",
    help="Compare with a server, or with llama.cpp's llama-server, which is started with the same "
    "files; repeatable.",
)
@click.option(
    "--against-n-draft",
    "server_lengths",
    type=DraftLengths(),
    default="3",
    show_default=True,
    help="Draft lengths of a llama-server that is started; it also runs without drafting.",
)
@pair_options
@draft_lengths_option
@answer_options
@workload_options
@run_options
@report_options
def command(
    model: str,
    file: Path | None,
    against: tuple[str, ...],
    server_lengths: list[int | None],
    pair: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    run: RunFlags,
    report: ReportFlags,
) -> int:
    """Measure MODEL as `bench run` does, and compare with an earlier result.

    FILE is what `bench run --json` printed; without it the latest stored result is used. With
    --against, other engines answer the same prompts in turns with localmtp.

    \b
        localmtp bench compare nano
        localmtp bench compare nano before.json --workload code
        localmtp bench compare gemma4-e4b --against ./llama-server --n-draft 0,3,auto --sampled
        localmtp bench compare gemma4-e4b --against http://127.0.0.1:8000
    """  # noqa: D301 - click reads the character
    check_against(against, server_lengths, run, has_file=file is not None)
    if against:
        return compare_engines(
            model, against, server_lengths, pair, lengths, generation, workload, run, report
        )
    from localmtp.bench.result_store import read_result

    earlier = read_result(file) if file else results_of(model)[0]
    return measure_and_show(
        model, pair, lengths, generation, workload, run, report, earlier=earlier
    )
