"""`localmtp doctor`: this machine, what could make it faster, and which models fit it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from localmtp.cli import output
from localmtp.cli.table import gigabytes, table, tokens


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(as_json: bool) -> None:
    """Show this machine: its memory and speed, its backends, and which models fit.

    Takes a few seconds, because memory bandwidth is measured.
    """
    from localmtp.checkup import checkup

    found = checkup()
    if as_json:
        output.line(json.dumps(asdict(found), indent=2))
        return
    facts = {
        "processor": f"{found.processor}, {found.cores} cores",
        "instructions": " ".join(found.instructions),
        "memory": f"{gigabytes(found.memory)}, of which a model may take "
        f"{gigabytes(found.usable_memory)} now",
        "bandwidth": f"{gigabytes(found.bandwidth)}/s, measured",
        "llama.cpp": f"llama-cpp-python {found.llama_cpp_python}",
        "own entries": found.registry,
    }
    for name, words in facts.items():
        output.line(f"{name:13} {words}")
    for device in found.devices:
        free, total = gigabytes(device.free), gigabytes(device.total)
        output.line(f"{device.name:13} {device.description}, {free} of {total} free")
    output.line()
    table(
        ("model", "size", "fits with", "tokens/s", "with drafts"),
        [
            (
                f.model,
                gigabytes(f.bytes),
                f"{tokens(f.context)} tokens" if f.context else "no",
                f"{f.tokens_per_s:.1f}" if f.context else "",
                f"{f.tokens_per_s_drafting:.1f}" if f.context else "",
            )
            for f in found.models
        ],
    )
    output.line(
        "tokens/s: on the processor at most, by memory bandwidth; `localmtp bench MODEL` measures"
    )
    for advice in found.advice:
        click.echo(f"hint: {advice}", err=True)
