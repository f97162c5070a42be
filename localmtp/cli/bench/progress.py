"""A measurement on the terminal: progress, time left, what is missing at its end."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from localmtp.bench.measure import Answer, Plan
    from localmtp.bench.results import Results
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles


def follow(pair: Pair, files: ModelFiles, plan: Plan) -> tuple[list[Answer], bool]:
    """The answers, all or as many as there were before Ctrl-C, and whether it was pressed."""
    from localmtp.bench.measure import measure

    answers: list[Answer] = []
    began = perf_counter()
    try:
        for answer in measure(pair, files, plan):
            answers.append(answer)
            elapsed = perf_counter() - began
            show_progress(len(answers), plan.answers, "answers", elapsed, plan.budget_s)
    except KeyboardInterrupt:
        return answers, True
    finally:
        if answers and sys.stderr.isatty():
            click.echo(err=True)
    return answers, False


def say_what_is_missing(plan: Plan, answers: list[Answer], results: Results) -> None:
    """Name workloads that were not reached, or say how much of all was measured."""
    measured = {workload for _, workload in results.settings}
    missing = [name for name in plan.workloads if name not in measured]
    if missing:
        click.echo(f"not measured in the time: {', '.join(missing)}", err=True)
    elif len(answers) < plan.answers:
        click.echo(f"partial: {len(answers)} of {plan.answers} answers", err=True)


def show_progress(
    done: int, total: int, things: str, elapsed: float, budget_s: float | None = None
) -> None:
    """One line that is rewritten; in a log a line at every tenth.

    Args:
        done: how many of the things are.
        total: how many there will be.
        things: their name.
        elapsed: seconds that it took so far.
        budget_s: seconds after which it ends in any case.
    """
    left = elapsed / done * (total - done)
    if budget_s:
        left = max(0.0, min(left, budget_s - elapsed))
    minutes, seconds = divmod(round(left), 60)
    line = f"{done} of {total} {things}, {minutes}:{seconds:02} left"
    if sys.stderr.isatty():
        click.echo(f"\r{line:60}", nl=False, err=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        click.echo(line, err=True)
