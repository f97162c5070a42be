"""`localmtp bench`: measured speed of a pair on this machine."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from localmtp.cli.bench.comparing import LATEST, compared, earlier, show_history
from localmtp.cli.bench.concurrency import ALONE_ONLY, Sizes, measure_together
from localmtp.cli.bench.lab import record_trace, show_replay
from localmtp.cli.bench.measuring import DraftLengths, PromptsFile, chosen_workloads, load
from localmtp.cli.bench.progress import follow, say_what_is_missing
from localmtp.cli.bench.reporting import setting, show
from localmtp.cli.bench.synthetic import MEANINGLESS, Shares, expect
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.options import choices, pair_options, prompt_options, sampling_options

if TYPE_CHECKING:
    from localmtp.bench.measure import Plan
    from localmtp.models import ModelFiles


@click.command("bench", short_help="Measured speed, with and without drafting.")
@click.argument("model", required=False)
@pair_options
@click.option(
    "--n-draft",
    type=DraftLengths(),
    default="0,1,2,3,4,6,8,auto",
    show_default=True,
    help="Draft lengths to compare; 0, no drafting, is always among them.",
)
@sampling_options(temp=0.0, seed=0)
@click.option("--sampled", is_flag=True, help="Measure the model's own sampling as well.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    default=256,
    show_default=True,
    help="Longest answer.",
)
@prompt_options
@click.option(
    "--workload", "workloads", multiple=True, metavar="NAME", help="Only this one; repeatable."
)
@click.option(
    "--prompts", type=click.IntRange(min=1), default=2, show_default=True, help="Per workload."
)
@click.option(
    "--prompts-file",
    type=PromptsFile(),
    help="Your own prompts: TOML or JSON, lists of them by workload.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--budget", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES", help="Stop by then."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option("--markdown", is_flag=True, help="Print Markdown instead.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.svg|png", help="Draw it too."
)
@click.option("--history", is_flag=True, help="Instead, show earlier results for MODEL.")
@click.option(
    "--compare",
    is_flag=False,
    flag_value=LATEST,
    metavar="[FILE]",
    help="Compare with the latest result before, or with one that --json printed.",
)
@click.option(
    "--synthetic",
    is_flag=True,
    help="Instead, expect a speed, with random weights of MODEL's shape; downloads nothing.",
)
@click.option(
    "--acceptance",
    type=Shares(),
    metavar="LIST",
    help="With --synthetic: share of drafts accepted at each position.  [default: published ones]",
)
@click.option(
    "--concurrency",
    type=Sizes(),
    metavar="LIST",
    help="Instead, decode so many answers at once, e.g. 1,2,4,8.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Instead, record drafts of full length at every position.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Instead, compare draft length rules on such a record; no MODEL.",
)
def command(
    model: str | None,
    plot: Path | None,
    trace: Path | None,
    replay: Path | None,
    **flags: Any,
) -> int:
    """Measure MODEL's speed at several draft lengths and on several kinds of text.

    Every prompt is answered at all lengths, one after the other in changing order. Ctrl-C ends
    the measurement and shows what there is.

    \b
    localmtp bench nano
    localmtp bench gemma4-e4b --budget 20
    localmtp bench nano --workload code --n-draft 0,3,auto --json
    localmtp bench gemma4-e4b --prompts-file mine.toml
    localmtp bench gemma4-12b --synthetic
    localmtp bench nano --concurrency 1,2,4,8 --n-draft 0,3,auto
    localmtp bench nano --compare
    localmtp bench nano --trace nano.jsonl; localmtp bench --replay nano.jsonl
    """  # noqa: D301 - click reads the character
    from localmtp.bench.plot import check_plot_file, draw
    from localmtp.bench.report import as_json, tables
    from localmtp.bench.results import Results

    if replay is not None:
        show_replay(replay, as_json=flags["as_json"])
        return 0
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    _refuse_what_means_nothing(flags)
    if flags["synthetic"]:
        expect(model, flags)
        return 0
    if flags["history"]:
        show_history(model)
        return 0
    if flags["concurrency"]:
        return measure_together(model, flags, _lengths(flags))
    before = earlier(model, flags["compare"]) if flags["compare"] else None
    if plot is not None:
        check_plot_file(plot)
    files, pair = load(model, flags)
    with pair:
        plan = _plan(files, flags)
        if trace is not None:
            record_trace(pair, files, plan.workloads, plan.choices[0], trace)
            return 0
        answers, interrupted = follow(pair, files, plan)
        where = setting(files, flags["threads"])
    results = Results(plan, answers)
    if not results.runs:
        click.echo("stopped before a prompt was answered at every draft length", err=True)
        return INTERRUPTED
    if plot is not None:
        draw(where, results, plot)
    report = as_json(where, results)
    shown = chain(tables(where, results), compared(report, before))
    show(where, report, shown, flags)
    say_what_is_missing(plan, answers, results)
    return INTERRUPTED if interrupted else 0


def _refuse_what_means_nothing(flags: dict[str, Any]) -> None:
    """Flags that would be ignored are refused."""
    if not flags["synthetic"] and flags["acceptance"]:
        raise click.UsageError("--acceptance is for --synthetic: drafts are accepted or not.")
    context = click.get_current_context()
    for instead, meaningless in (("synthetic", MEANINGLESS), ("concurrency", ALONE_ONLY)):
        for parameter in context.command.params if flags[instead] else ():
            source = context.get_parameter_source(parameter.name or "")
            if source is ParameterSource.COMMANDLINE and parameter.name in meaningless:
                raise click.UsageError(f"{parameter.opts[0]} means nothing with --{instead}.")


def _plan(files: ModelFiles, flags: dict[str, Any]) -> Plan:
    from localmtp.bench.measure import Plan

    lengths = _lengths(flags)
    if files.why_no_drafter:
        click.echo(f"drafting is off: {files.why_no_drafter}", err=True)
        lengths = [0]
    temperatures = (flags["temp"], None) if flags["sampled"] else (flags["temp"],)
    return Plan(
        workloads=chosen_workloads(files.name, flags),
        lengths=lengths,
        choices=[choices(flags, n_draft=None, temperature=t) for t in temperatures],
        repeats=flags["repeats"],
        budget_s=flags["budget"] and 60 * flags["budget"],
    )


def _lengths(flags: dict[str, Any]) -> list[int | None]:
    """The draft lengths that were asked for, and no drafting."""
    return list(dict.fromkeys([0, *flags["n_draft"]]))
