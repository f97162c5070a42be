"""Options shared by the subcommands of `bench`, and their values as dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localmtp.cli.flags.draft_length import DraftLengths
from localmtp.cli.flags.ranges import Number, WholeNumber
from localmtp.cli.options import (
    GenerationFlags,
    collected,
    prompt_options,
    sampling_options,
)
from localmtp.cli.output_file import force_option
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.workloads import Workloads

Command = TypeVar("Command", bound=Callable[..., Any])


class PromptsFile(click.ParamType["Workloads"]):
    """A file of prompts, read before anything is loaded."""

    name = "file"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Workloads:
        """Return the file's workloads.

        Raises:
            LocalmtpError: see `workloads_in`.
        """
        from localmtp.bench.workloads import workloads_in

        return workloads_in(str(value))


@dataclass(frozen=True, slots=True)
class WorkloadFlags:
    """Values of `workload_options`."""

    workloads: tuple[str, ...]
    """Names; empty for all."""
    prompts: int
    """Maximum per workload."""
    prompts_file: Workloads | None
    speed_bench: bool

    def chosen(self, model: str) -> Workloads:
        """Return the selected workloads.

        Args:
            model: its name; `nano` has workloads of its own.

        Raises:
            LocalmtpError: there is no workload of a given name.
        """
        from localmtp.bench.workloads import speed_bench, workloads_for

        if self.speed_bench and self.prompts_file:
            raise LocalmtpError("--speed-bench and --prompts-file both choose the prompts")
        found = (
            speed_bench(self.prompts)
            if self.speed_bench
            else workloads_for(model, self.prompts, self.prompts_file)
        )
        for name in self.workloads:
            if name not in found:
                raise LocalmtpError(
                    f"there is no workload `{name}` for {model}",
                    hint=f"one of: {', '.join(found)}",
                )
        return {n: prompts for n, prompts in found.items() if n in (self.workloads or found)}


@dataclass(frozen=True, slots=True)
class ReportFlags:
    """Values of `report_options`; tables without either."""

    as_json: bool
    markdown: bool


@dataclass(frozen=True, slots=True)
class RunFlags:
    """Values of `run_options`."""

    sampled: bool
    """Measure the model's own sampling as well."""
    repeats: int
    budget: float | None
    """Minutes."""
    plot: Path | None
    force: bool


def draft_lengths_option(command: Command) -> Command:
    """Add `--n-draft`, passed as `lengths`; see `with_no_drafting`."""
    return click.option(
        "--n-draft",
        "lengths",
        type=DraftLengths(),
        default="0,1,2,3,4,6,8,auto",
        show_default=True,
        help="Draft lengths to compare; 0, no drafting, is always included.",
    )(command)


def with_no_drafting(lengths: list[int | None]) -> list[int | None]:
    """Return the draft lengths with 0 first: every speedup is relative to it."""
    return list(dict.fromkeys([0, *lengths]))


def workload_options(command: Command) -> Command:
    """Add the options that select prompts, passed as `workload: WorkloadFlags`."""
    options = (
        click.option(
            "--workload",
            "workloads",
            multiple=True,
            metavar="NAME",
            help="Only this workload; repeatable.",
        ),
        click.option(
            "--prompts",
            type=WholeNumber(min=1),
            default=2,
            show_default=True,
            help="Prompts per workload.",
        ),
        click.option(
            "--prompts-file",
            type=PromptsFile(),
            help="Your own prompts: TOML or JSON, lists of prompts by workload.",
        ),
        click.option(
            "--speed-bench",
            is_flag=True,
            help="The eleven categories of SPEED-Bench, with prompts of localmtp's own.",
        ),
    )
    command = collected(WorkloadFlags, "workload")(command)
    for option in reversed(options):
        command = option(command)
    return command


def answer_options(command: Command) -> Command:
    """Add the options for generation, greedy by default, passed as `generation`."""
    command = collected(GenerationFlags, "generation")(command)
    return sampling_options(temp=0.0, seed=0)(max_tokens_option(prompt_options(command)))


def max_tokens_option(command: Command) -> Command:
    """Add `--max-tokens` with a default."""
    return click.option(
        "--max-tokens",
        type=WholeNumber(min=2),
        default=256,
        show_default=True,
        help="Maximum length of an answer.",
    )(command)


def repeats_option(command: Command) -> Command:
    """Add `--repeats`."""
    return click.option(
        "--repeats",
        type=WholeNumber(min=1),
        default=3,
        show_default=True,
        help="Measurements of each prompt; medians are reported.",
    )(command)


def budget_option(command: Command) -> Command:
    """Add `--budget`."""
    return click.option(
        "--budget",
        type=Number(min=0, min_open=True),
        metavar="MINUTES",
        help="Time limit.",
    )(command)


def run_options(command: Command) -> Command:
    """Add the options of a measurement that is shown as tables, passed as `run: RunFlags`."""
    sampled = click.option(
        "--sampled", is_flag=True, help="Measure the model's own sampling as well."
    )
    plot = click.option(
        "--plot", type=click.Path(path_type=Path), metavar="FILE.svg|png", help="Write a plot."
    )
    command = force_option(collected(RunFlags, "run")(command))
    return sampled(repeats_option(budget_option(plot(command))))


def report_options(command: Command) -> Command:
    """Add the options for the form of the report, passed as `report: ReportFlags`."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    markdown = click.option("--markdown", is_flag=True, help="Print Markdown.")
    return as_json(markdown(collected(ReportFlags, "report")(command)))
