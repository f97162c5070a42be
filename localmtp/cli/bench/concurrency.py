"""`bench --concurrency`: several answers decoded at once."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli.bench.measuring import chosen_workloads, load
from localmtp.cli.bench.progress import show_progress
from localmtp.cli.bench.reporting import setting, show
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.options import choices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localmtp.bench.concurrency import Crowds
    from localmtp.bench.workloads import Workloads
    from localmtp.engine.pair import Pair


ALONE_ONLY = ("trace", "plot", "history", "compare", "sampled", "synthetic", "budget", "system")
"""Flags of `bench` that say nothing where several answers are decoded at once."""


class Sizes(click.ParamType[list[int]]):
    """Numbers of answers with commas between them."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """The numbers, each once."""
        between = click.IntRange(1, 64)
        return list(dict.fromkeys(between(p.strip(), param, ctx) for p in str(value).split(",")))


def measure_together(model: str, flags: dict[str, Any], lengths: Sequence[int | None]) -> int:
    """Measure crowds of several sizes, and show what was measured.

    Returns:
        The exit code.

    Raises:
        LocalmtpError: the pair cannot be loaded with room for so many.
    """
    from localmtp.bench.concurrency import Concurrency, measure_crowds

    files, pair = load(model, flags, parallel=max(flags["concurrency"]))
    measured, interrupted = [], False
    if files.why_no_drafter:
        click.echo(f"drafting is off: {files.why_no_drafter}", err=True)
        lengths = [0]
    with pair:
        crowds = _crowds(pair, chosen_workloads(files.name, flags), flags, lengths)
        total = len(crowds.sizes) * len(crowds.lengths) * crowds.repeats
        began = perf_counter()
        try:
            for crowd in measure_crowds(pair, crowds):
                measured.append(crowd)
                show_progress(len(measured), total, "crowds", perf_counter() - began)
        except KeyboardInterrupt:
            interrupted = True
        where = setting(files, flags["threads"])
    found = Concurrency(crowds.lengths, measured)
    if not found.sizes:
        click.echo("stopped before a number of answers was measured at every length", err=True)
        return INTERRUPTED
    show(where, found.as_json(where), found.tables(), flags)
    return INTERRUPTED if interrupted else 0


def _crowds(
    pair: Pair, workloads: Workloads, flags: dict[str, Any], lengths: Sequence[int | None]
) -> Crowds:
    from localmtp.bench.concurrency import Crowds
    from localmtp.session.local import default_sampling
    from localmtp.session.prompts import chat_template, prompt_tokens

    template = chat_template(pair)
    texts = [text for listed in workloads.values() for text in listed]
    if template is not None:
        turns = ([{"role": "user", "content": text}] for text in texts)
        texts = [template.render(turn, think=flags["think"]) for turn in turns]
    return Crowds(
        prompts=[prompt_tokens(pair, text) for text in texts],
        sizes=flags["concurrency"],
        lengths=lengths,
        sampling=choices(flags).settings(default_sampling(pair)).sampling,
        max_tokens=flags["max_tokens"],
        repeats=flags["repeats"],
    )
