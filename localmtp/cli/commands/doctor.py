"""`localmtp doctor`: this machine, advice for more speed, and which models fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.flags.rpc import rpc_option
from localmtp.cli.table import gigabytes, table, tokens
from localmtp.models.memory.estimate import ACCEPTANCE

if TYPE_CHECKING:
    from localmtp.models.doctor import MachineReport

_ABOUT_RATES = (
    "Rates are upper bounds, computed from the bandwidth of main memory, an acceptance\n"
    f"of {100 * ACCEPTANCE:.0f} %, and multi-row passes as fast as single ones. With few cores,\n"
    "drafting gains less, or nothing: `localmtp bench MODEL` measures it."
)


@click.command("doctor", short_help="Check this machine and which models fit it.")
@rpc_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Show this machine's memory, speed and backends, and which models fit.

    Takes a few seconds, since memory bandwidth is measured.
    """
    from localmtp.models.doctor import examine

    found = examine()
    if as_json:
        output.line(json.dumps(asdict(found), indent=2))
        return
    _print_machine(found)
    output.line()
    _print_models(found)
    for advice in found.advice:
        output.hint(advice)


def _print_machine(found: MachineReport) -> None:
    usable = gigabytes(found.usable_memory)
    facts = {
        "processor": f"{found.processor}, {found.cores} cores",
        "instructions": " ".join(found.instructions),
        "memory": f"{gigabytes(found.memory)}, {usable} available to a model",
        "bandwidth": f"{gigabytes(found.bandwidth)}/s, measured",
        "llama.cpp": f"llama-cpp-python {found.llama_cpp_python}, for {' '.join(found.backends)}",
        "media": found.media,
        "own entries": found.registry,
    }
    for number, gpu in enumerate(found.gpus):
        state = f"used as {gpu.used_as}" if gpu.used_as else "not used"
        facts[f"GPU {number}" if len(found.gpus) > 1 else "GPU"] = f"{gpu.name}, {state}"
    for device in found.devices:
        free, total = gigabytes(device.free), gigabytes(device.total)
        facts[device.name] = f"{device.description}, {free} of {total} free"
    for name, words in facts.items():
        output.line(f"{name:13} {words}")


def _print_models(found: MachineReport) -> None:
    rated = any(fitting.tokens_per_s for fitting in found.models)
    rows = []
    for fitting in found.models:
        plain = drafting = ""
        if fitting.context and fitting.tokens_per_s:
            plain = f"{fitting.tokens_per_s:.1f}"
            drafting = f"{fitting.tokens_per_s_drafting:.1f} (draft length {fitting.n_draft})"
        rows.append(
            (
                fitting.model,
                gigabytes(fitting.bytes),
                f"{tokens(fitting.context)} tokens" if fitting.context else "no",
                *((fitting.division,) if found.devices else ()),
                *((plain, drafting) if rated else ()),
            )
        )
    placement = ("placement",) if found.devices else ()
    rates = ("max tok/s", "max tok/s with drafting") if rated else ()
    table(("model", "size", "fits with", *placement, *rates), rows)
    if rated:
        output.line(_ABOUT_RATES)
