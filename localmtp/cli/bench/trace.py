"""`localmtp bench trace`: records full-length drafts for evaluating draft policies."""

from __future__ import annotations

from pathlib import Path

import click

from localmtp.cli import output
from localmtp.cli.bench.options import WorkloadFlags, answer_options, workload_options
from localmtp.cli.loading import load_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import GenerationFlags, PairFlags, pair_options
from localmtp.cli.output_file import check_output, force_option, is_trace


@click.command("trace", short_help="Record full-length drafts at every position.")
@click.argument("model", type=MODEL)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pair_options
@answer_options
@workload_options
@force_option
def command(
    model: str,
    file: Path,
    pair: PairFlags,
    generation: GenerationFlags,
    workload: WorkloadFlags,
    force: bool,
) -> None:
    """Record full-length drafts at every position of MODEL's answers to FILE, as JSON lines.

    `bench replay` compares draft policies on such a trace.

    \b
        localmtp bench trace nano nano.jsonl
    """  # noqa: D301 - click reads the character
    from localmtp.bench.lab.pacing.recording import measured_curve, record
    from localmtp.bench.lab.pacing.trace_file import FullTrace, write
    from localmtp.session.local import LocalSession

    check_output(file, force=force, is_ours=is_trace)
    files, loaded = load_model(model, pair)
    with loaded:
        workloads = workload.chosen(files.name)
        session = LocalSession(loaded, files, generation.choices())
        curve = measured_curve(session, next(iter(workloads.values()))[0])
        total, answers = sum(map(len, workloads.values())), []
        for answer in record(session, workloads):
            answers.append(answer)
            output.note(f"{len(answers)} of {total} answers recorded")
        write(file, FullTrace(files.name, curve, tuple(answers)))
