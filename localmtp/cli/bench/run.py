"""`localmtp bench run`: decoding speed by draft length and workload."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.bench.options import (
    ReportFlags,
    RunFlags,
    WorkloadFlags,
    answer_options,
    draft_lengths_option,
    report_options,
    run_options,
    with_no_drafting,
    workload_options,
)
from localmtp.cli.bench.progress import collect_answers, say_what_is_missing
from localmtp.cli.bench.report import setup_of, show
from localmtp.cli.bench.storage import compared, stored
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.loading import load_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import GenerationFlags, PairFlags, pair_options
from localmtp.cli.output_file import check_output, is_plot

if TYPE_CHECKING:
    from localmtp.bench.measure import MeasurePlan
    from localmtp.bench.result_store import StoredResult
    from localmtp.models import ModelFiles


@click.command("run", short_help="Speed by draft length and kind of text; the default.")
@click.argument("model", type=MODEL)
@pair_options
@draft_lengths_option
@answer_options
@workload_options
@run_options
@report_options
def command(
    model: str,
    pair: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    run: RunFlags,
    report: ReportFlags,
) -> int:
    """Measure MODEL's decoding speed at several draft lengths, on several kinds of text.

    Every prompt is answered at all draft lengths in succession, in an order that rotates. Ctrl-C
    ends the measurement and shows the results so far.

    \b
        localmtp bench nano
        localmtp bench gemma4-e4b --budget 20
        localmtp bench nano --workload code --n-draft 0,3,auto --json
        localmtp bench gemma4-e4b --prompts-file mine.toml
    """  # noqa: D301 - click reads the character
    return measure_and_show(model, pair, lengths, generation, workload, run, report)


def measure_and_show(
    model: str,
    pair_flags: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    run: RunFlags,
    report: ReportFlags,
    earlier: StoredResult | None = None,
) -> int:
    """Measure, store the result, and print it.

    Args:
        model: as the user wrote it.
        pair_flags: how to find and load it.
        lengths: draft lengths; None is automatic pacing.
        generation: how answers are generated.
        workload: which prompts.
        run: how often, for how long.
        report: the form of the report.
        earlier: a result to compare with.

    Returns:
        The exit code.

    Raises:
        LocalmtpError: the model cannot be loaded, or the results have nothing in common.
    """
    from localmtp.bench.plot import check_plot_file, draw
    from localmtp.bench.report import as_json, tables
    from localmtp.bench.results import Results

    if run.plot is not None:
        check_plot_file(run.plot)
        check_output(run.plot, force=run.force, is_ours=is_plot)
    files, pair = load_model(model, pair_flags)
    with pair:
        plan = _plan(files, lengths, generation, workload, run)
        answers, interrupted = collect_answers(pair, files, plan)
        setup = setup_of(files, pair_flags.threads, pair)
    results = Results(plan, answers)
    if not results.runs:
        output.note("stopped before a prompt was answered at every draft length")
        return INTERRUPTED
    if run.plot is not None:
        draw(setup, results, run.plot)
    found = stored(as_json(setup, results))
    comparisons = [compared(found, earlier)] if earlier else []
    show(setup, found, chain(tables(setup, results), comparisons), report)
    say_what_is_missing(plan, answers, results)
    return INTERRUPTED if interrupted else 0


def _plan(
    files: ModelFiles,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    run: RunFlags,
) -> MeasurePlan:
    from localmtp.bench.measure import MeasurePlan

    lengths = with_no_drafting(lengths)
    if files.lookup:
        output.note(f"drafts are copied from the context: {files.why_no_drafter}")
    elif files.why_no_drafter:
        output.note(f"drafting is off: {files.why_no_drafter}")
        lengths = [0]
    choices = generation.choices()
    return MeasurePlan(
        workloads=workload.chosen(files.name),
        lengths=lengths,
        choices=[choices, replace(choices, temperature=None)] if run.sampled else [choices],
        repeats=run.repeats,
        budget_s=60 * run.budget if run.budget else None,
    )
