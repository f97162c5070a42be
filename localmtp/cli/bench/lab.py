"""`bench --trace` and `bench --replay`: how pacing is judged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.table import table

if TYPE_CHECKING:
    from localmtp.bench.workloads import Workloads
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles
    from localmtp.session import Choices


def record_trace(
    pair: Pair, files: ModelFiles, workloads: Workloads, choices: Choices, path: Path
) -> None:
    """Record full-length drafts at every position of the workloads' answers.

    Raises:
        LocalmtpError: the trace cannot be written.
    """
    from localmtp.bench.lab.pacing.recording import measured_curve, record
    from localmtp.bench.lab.pacing.trace_file import Record, write
    from localmtp.session.local import LocalSession

    session = LocalSession(pair, files, choices)
    curve = measured_curve(session, next(iter(workloads.values()))[0])
    total, answers = sum(map(len, workloads.values())), []
    for answer in record(session, workloads):
        answers.append(answer)
        click.echo(f"{len(answers)} of {total} answers recorded", err=True)
    write(path, Record(files.name, curve, tuple(answers)))


def show_replay(path: Path, *, as_json: bool) -> None:
    """Compare ways to choose the draft length on a trace, under several costs.

    Raises:
        LocalmtpError: the trace cannot be read.
    """
    from localmtp.bench.lab.pacing.replay import CURVES, compare
    from localmtp.bench.lab.pacing.trace_file import read

    recorded = read(path)
    outcomes = {c.name: compare(recorded.answers, c) for c in (recorded.curve, *CURVES)}
    if as_json:
        found = {name: [asdict(o) for o in listed] for name, listed in outcomes.items()}
        output.line(json.dumps({"model": recorded.model, "curves": found}, ensure_ascii=False))
        return
    tokens = sum(len(answer.rounds) for answer in recorded.answers)
    output.line(f"{recorded.model}: {len(recorded.answers)} answers, {tokens} tokens")
    for name, listed in outcomes.items():
        oracle = listed[-1].speed
        output.line(f"\nCosts: {name}")
        rows = [
            (o.policy, f"{o.speed:.2f}", f"{o.speed / oracle:.0%}", _length(o.draft_length))
            for o in listed
        ]
        table(("policy", "against none", "of oracle", "mean draft"), rows)


def _length(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.1f}"
