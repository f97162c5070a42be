"""`localmtp bench replay`: draft policies compared on a trace."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from localmtp.cli import output
from localmtp.cli.table import table


@click.command("replay", short_help="Compare draft policies on a trace.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: Path, as_json: bool) -> None:
    """Compare draft policies on FILE, which `bench trace` wrote, under several cost curves.

    \b
        localmtp bench replay nano.jsonl
    """  # noqa: D301 - click reads the character
    from localmtp.bench.lab.pacing.replay import CURVES, compare
    from localmtp.bench.lab.pacing.trace_file import read

    trace = read(file)
    results = {c.name: compare(trace.answers, c) for c in (trace.curve, *CURVES)}
    if as_json:
        curves = {name: [asdict(result) for result in listed] for name, listed in results.items()}
        output.line(json.dumps({"model": trace.model, "curves": curves}, ensure_ascii=False))
        return
    tokens = sum(len(answer.rounds) for answer in trace.answers)
    output.line(f"{trace.model}: {len(trace.answers)} answers, {tokens} tokens")
    for name, listed in results.items():
        oracle = listed[-1].speed
        output.line(f"\nCosts: {name}")
        rows = [
            (r.policy, f"{r.speed:.2f}×", f"{r.speed / oracle:.0%}", _length(r.draft_length))
            for r in listed
        ]
        table(("policy", "speedup", "of oracle", "draft length"), rows)


def _length(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.1f}"
