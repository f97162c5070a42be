"""Progress of a measurement on standard error."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import click

from localmtp.cli import output

if TYPE_CHECKING:
    from localmtp.bench.measure import MeasuredAnswer, MeasurePlan
    from localmtp.bench.results import Results
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles


def collect_answers(
    pair: Pair, files: ModelFiles, plan: MeasurePlan
) -> tuple[list[MeasuredAnswer], bool]:
    """Return the answers, all or those before Ctrl-C, and whether it was pressed."""
    from localmtp.bench.measure import measure

    answers: list[MeasuredAnswer] = []
    began = perf_counter()
    try:
        for answer in measure(pair, files, plan):
            answers.append(answer)
            elapsed = perf_counter() - began
            show_progress(len(answers), plan.answers, "answers", elapsed, plan.budget_s)
    except KeyboardInterrupt:
        return answers, True
    finally:
        if answers and output.shows_progress():
            click.echo(err=True)
    return answers, False


def say_what_is_missing(plan: MeasurePlan, answers: list[MeasuredAnswer], results: Results) -> None:
    """Print the workloads that were not reached, or how many answers were measured."""
    measured = {workload for _, workload in results.settings}
    missing = [name for name in plan.workloads if name not in measured]
    if missing:
        output.note(f"not measured in the time: {', '.join(missing)}")
    elif len(answers) < plan.answers:
        output.note(f"partial: {len(answers)} of {plan.answers} answers")


def show_progress(
    done: int, total: int, things: str, elapsed: float, budget_s: float | None = None
) -> None:
    """Print one line that is rewritten; in a log, a line at every tenth.

    Args:
        done: number of things done.
        total: number of things in all.
        things: plural noun.
        elapsed: seconds so far.
        budget_s: time limit in seconds.
    """
    left = elapsed / done * (total - done)
    if budget_s:
        left = max(0.0, min(left, budget_s - elapsed))
    minutes, seconds = divmod(round(left), 60)
    line = f"{done} of {total} {things}, {minutes}:{seconds:02} left"
    if output.shows_progress():
        click.echo(f"\r{line:60}", nl=False, err=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        output.note(line)
