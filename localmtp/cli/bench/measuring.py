"""What `bench` and `verify` share: a list of draft lengths, and a loaded pair."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli.options import DraftLength, load_options
from localmtp.cli.progress import Downloads
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.workloads import Workloads
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles


class DraftLengths(click.ParamType[list[int | None]]):
    """Draft lengths with commas between them."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int | None]:
        """The lengths, each once."""
        parts = [part.strip() for part in str(value).split(",")]
        return list(dict.fromkeys(DraftLength().convert(part, param, ctx) for part in parts))


class PromptsFile(click.ParamType["Workloads"]):
    """A file of prompts, read before anything is loaded."""

    name = "file"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Workloads:
        """What it holds.

        Raises:
            LocalmtpError: see `workloads_in`.
        """
        from localmtp.bench.workloads import workloads_in

        return workloads_in(str(value))


def load(model: str, flags: dict[str, Any], *, parallel: int = 1) -> tuple[ModelFiles, Pair]:
    """Find a pair, downloading what is missing, check that it fits, and load it.

    Args:
        model: as the user wrote it.
        flags: those of `pair_options`.
        parallel: see `LoadOptions`.

    Raises:
        LocalmtpError: see `resolve` and `load_pair`.
    """
    from localmtp.models import resolve
    from localmtp.session.loading import load_pair

    with Downloads() as progress:
        files = resolve(
            model, drafter=flags["drafter"], offline=flags["offline"], progress=progress
        )
    for warning in files.warnings:
        click.echo(f"warning: {warning}", err=True)
    pair, report = load_pair(files, replace(load_options(flags), parallel=parallel))
    if report.placement:
        click.echo(report.placement, err=True)
    return files, pair


def chosen_workloads(model: str, flags: dict[str, Any]) -> Workloads:
    """The workloads of a model or of `--prompts-file`, all or those of `--workload`.

    Raises:
        LocalmtpError: there is none of that name.
    """
    from localmtp.bench.workloads import workloads_for

    workloads = workloads_for(model, flags["prompts"], flags["prompts_file"])
    for name in flags["workloads"]:
        if name not in workloads:
            raise LocalmtpError(
                f"there is no workload `{name}` for {model}",
                hint=f"one of: {', '.join(workloads)}",
            )
    return {n: p for n, p in workloads.items() if n in (flags["workloads"] or workloads)}
