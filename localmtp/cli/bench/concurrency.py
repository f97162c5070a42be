"""`localmtp bench concurrency`: speed and speedup by number of concurrent answers."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.bench.options import (
    ReportFlags,
    WorkloadFlags,
    draft_lengths_option,
    max_tokens_option,
    repeats_option,
    report_options,
    with_no_drafting,
    workload_options,
)
from localmtp.cli.bench.progress import show_progress
from localmtp.cli.bench.report import setup_of, show
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.flags.ranges import WholeNumber
from localmtp.cli.loading import load_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import (
    GenerationFlags,
    PairFlags,
    collected,
    pair_options,
    sampling_options,
    think_option,
)

if TYPE_CHECKING:
    from localmtp.bench.concurrency import ConcurrencyPlan, ConcurrencyRun
    from localmtp.bench.workloads import Workloads
    from localmtp.engine.pair import Pair


class _Counts(click.ParamType[list[int]]):
    """Comma-separated numbers of concurrent answers."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Return the numbers without duplicates."""
        number = WholeNumber(1, 64)
        return list(dict.fromkeys(number(p.strip(), param, ctx) for p in str(value).split(",")))


@click.command("concurrency", short_help="Several answers decoded concurrently.")
@click.argument("model", type=MODEL)
@click.option(
    "--parallel",
    "counts",
    type=_Counts(),
    metavar="LIST",
    default="1,2,4,8",
    show_default=True,
    help="Numbers of answers to decode concurrently.",
)
@pair_options
@draft_lengths_option
@sampling_options(temp=0.0, seed=0)
@max_tokens_option
@think_option
@workload_options
@repeats_option
@report_options
@collected(GenerationFlags, "generation")
def command(
    model: str,
    counts: list[int],
    pair: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    repeats: int,
    report: ReportFlags,
) -> int:
    """Measure MODEL while it decodes several answers concurrently, as `localmtp serve` does.

    \b
        localmtp bench concurrency nano
        localmtp bench concurrency gemma4-e4b --parallel 1,4 --n-draft 0,3,auto
    """  # noqa: D301 - click reads the character
    from localmtp.bench.concurrency import ConcurrencyResults

    lengths = with_no_drafting(lengths)
    files, loaded = load_model(model, pair, parallel=max(counts))
    if files.lookup:
        output.note(f"drafts are copied from the context: {files.why_no_drafter}")
    elif files.why_no_drafter:
        output.note(f"drafting is off: {files.why_no_drafter}")
        lengths = [0]
    with loaded:
        workloads = workload.chosen(files.name)
        plan = _plan(loaded, workloads, counts, lengths, generation, repeats)
        runs, interrupted = _collect(loaded, plan)
        setup = setup_of(files, pair.threads, loaded)
    results = ConcurrencyResults(plan.lengths, runs)
    if not results.counts:
        output.note("stopped before any number of answers was measured at every length")
        return INTERRUPTED
    show(setup, results.as_json(setup), results.tables(), report)
    return INTERRUPTED if interrupted else 0


def _collect(pair: Pair, plan: ConcurrencyPlan) -> tuple[list[ConcurrencyRun], bool]:
    """Return the runs, all or those before Ctrl-C, and whether it was pressed."""
    from localmtp.bench.concurrency import measure_concurrency

    total = len(plan.counts) * len(plan.lengths) * plan.repeats
    runs: list[ConcurrencyRun] = []
    began = perf_counter()
    try:
        for run in measure_concurrency(pair, plan):
            runs.append(run)
            show_progress(len(runs), total, "runs", perf_counter() - began)
    except KeyboardInterrupt:
        return runs, True
    return runs, False


def _plan(
    pair: Pair,
    workloads: Workloads,
    counts: Sequence[int],
    lengths: Sequence[int | None],
    generation: GenerationFlags,
    repeats: int,
) -> ConcurrencyPlan:
    from localmtp.bench.concurrency import ConcurrencyPlan
    from localmtp.session.local import default_sampling
    from localmtp.session.prompts import chat_template, prompt_tokens

    template = chat_template(pair)
    texts = [text for listed in workloads.values() for text in listed]
    if template is not None:
        turns = ([{"role": "user", "content": text}] for text in texts)
        texts = [template.render(turn, think=generation.think) for turn in turns]
    assert generation.max_tokens is not None
    return ConcurrencyPlan(
        prompts=[prompt_tokens(pair, text) for text in texts],
        counts=counts,
        lengths=lengths,
        sampling=generation.choices().settings(default_sampling(pair)).sampling,
        max_tokens=generation.max_tokens,
        repeats=repeats,
    )
