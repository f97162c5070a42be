"""`localmtp bench`: measured speed of a pair on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli import output
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.measuring import DraftLengths, load
from localmtp.cli.options import choices, pair_options, prompt_options, sampling_options
from localmtp.cli.table import table
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.measure import Answer, Plan
    from localmtp.bench.report import Setting
    from localmtp.bench.results import Results
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles


@click.command("bench", short_help="Measured speed, with and without drafting.")
@click.argument("model")
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
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--budget", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES", help="Stop by then."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option("--markdown", is_flag=True, help="Print Markdown instead.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw it too.")
def command(model: str, as_json: bool, markdown: bool, plot: Path | None, **flags: Any) -> int:
    r"""Measure MODEL's speed at several draft lengths and on several kinds of text.

    Every prompt is answered at all lengths, one after the other in changing order. Ctrl-C ends
    the measurement and shows what there is.

    \b
    localmtp bench nano
    localmtp bench gemma4-e4b --budget 20
    localmtp bench nano --workload code --n-draft 0,3,auto --json
    """
    from localmtp.bench.plot import draw
    from localmtp.bench.report import as_json as to_json
    from localmtp.bench.report import as_markdown, tables
    from localmtp.bench.results import Results

    files, pair = load(model, flags)
    with pair:
        plan = _plan(files, flags)
        setting = _setting(files, pair, flags["threads"])
        answers, interrupted = _measured(pair, files, plan)
    results = Results(plan, answers)
    if not results.runs:
        click.echo("stopped before a prompt was answered at every draft length", err=True)
        return INTERRUPTED
    if plot is not None:
        draw(setting, results, plot)
    if as_json:
        output.line(json.dumps(to_json(setting, results), ensure_ascii=False))
    elif markdown:
        output.line(as_markdown(setting, results))
    else:
        for shown in tables(results):
            output.line(f"\n{shown.title}")
            table(shown.head, shown.rows)
    _say_what_is_missing(plan, answers, results)
    return INTERRUPTED if interrupted else 0


def _plan(files: ModelFiles, flags: dict[str, Any]) -> Plan:
    from localmtp.bench.measure import Plan
    from localmtp.bench.workloads import workloads_for

    workloads = workloads_for(files.name, flags["prompts"])
    for name in flags["workloads"]:
        if name not in workloads:
            raise LocalmtpError(
                f"there is no workload `{name}` for {files.name}",
                hint=f"one of: {', '.join(workloads)}",
            )
    lengths: list[int | None] = list(dict.fromkeys([0, *flags["n_draft"]]))
    if files.why_no_drafter:
        click.echo(f"drafting is off: {files.why_no_drafter}", err=True)
        lengths = [0]
    temperatures = (flags["temp"], None) if flags["sampled"] else (flags["temp"],)
    return Plan(
        workloads={n: p for n, p in workloads.items() if n in (flags["workloads"] or workloads)},
        lengths=lengths,
        choices=[choices(flags, n_draft=None, temperature=t) for t in temperatures],
        repeats=flags["repeats"],
        budget_s=flags["budget"] and 60 * flags["budget"],
    )


def _setting(files: ModelFiles, pair: Pair, threads: int | None) -> Setting:
    from localmtp import machine
    from localmtp.bench.report import Setting
    from localmtp.engine.ggml import devices

    return Setting(
        model=files.name,
        drafter=files.drafter_name,
        cpu=machine.processor(),
        threads=threads or machine.cores(),
        devices=tuple(device.description for device in devices()),
    )


def _measured(pair: Pair, files: ModelFiles, plan: Plan) -> tuple[list[Answer], bool]:
    """The answers, all or as many as there were before Ctrl-C, and whether it was pressed."""
    from localmtp.bench.measure import measure

    answers: list[Answer] = []
    began = perf_counter()
    try:
        for answer in measure(pair, files, plan):
            answers.append(answer)
            _show_progress(plan, len(answers), perf_counter() - began)
    except KeyboardInterrupt:
        return answers, True
    finally:
        if answers and sys.stderr.isatty():
            click.echo(err=True)
    return answers, False


def _show_progress(plan: Plan, done: int, elapsed: float) -> None:
    """One line that is rewritten; in a log a line at every tenth."""
    left = elapsed / done * (plan.answers - done)
    if plan.budget_s:
        left = max(0.0, min(left, plan.budget_s - elapsed))
    minutes, seconds = divmod(round(left), 60)
    line = f"{done} of {plan.answers} answers, {minutes}:{seconds:02} left"
    if sys.stderr.isatty():
        click.echo(f"\r{line:60}", nl=False, err=True)
    elif done * 10 // plan.answers > (done - 1) * 10 // plan.answers:
        click.echo(line, err=True)


def _say_what_is_missing(plan: Plan, answers: list[Answer], results: Results) -> None:
    measured = {workload for _, workload in results.settings}
    missing = [name for name in plan.workloads if name not in measured]
    if missing:
        click.echo(f"not measured in the time: {', '.join(missing)}", err=True)
    elif len(answers) < plan.answers:
        click.echo(f"partial: {len(answers)} of {plan.answers} answers", err=True)
