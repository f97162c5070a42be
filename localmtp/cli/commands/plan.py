"""`localmtp plan`: the command or file that runs the same pair on another engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.flags.ranges import WholeNumber
from localmtp.cli.model_argument import MODEL
from localmtp.limits import DEFAULT_CONTEXT, MIN_CONTEXT

if TYPE_CHECKING:
    from localmtp.plan.planning import EnginePlan


@click.command("plan", short_help="The command that runs a model on another engine.")
@click.argument("model", type=MODEL)
@click.option(
    "--for",
    "engine",
    type=click.Choice(["vllm", "llama.cpp", "ollama"]),
    required=True,
    help="Engine.",
)
@click.option(
    "--drafter",
    type=click.Path(),
    metavar="PATH",
    help="Another drafter, or a smaller model with the same vocabulary.  [default: MODEL's own]",
)
@click.option(
    "--ctx",
    type=WholeNumber(min=MIN_CONTEXT),
    default=DEFAULT_CONTEXT,
    show_default=True,
    help="Context size in tokens.",
)
@click.option(
    "--bench",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="`bench --json` report to take the draft length from.  [default: the latest result]",
)
@click.option("--offline", is_flag=True, help="Do not use the network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    engine: str,
    drafter: str | None,
    ctx: int,
    bench: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Print the command that runs MODEL with its drafter on vLLM, llama.cpp's server or Ollama.

    The command, or the Modelfile for Ollama, is printed on standard output, notes on standard
    error. Nothing is downloaded or started.

    \b
        localmtp plan gemma4-31b --for vllm
        localmtp plan gemma4-e4b --for ollama > Modelfile
        localmtp plan ./gemma-4-E4B-it-Q4_0.gguf --for llama.cpp --ctx 32768
        localmtp plan ./Qwen3-8B-Q4_K_M.gguf --drafter ./Qwen3-0.6B-Q8_0.gguf --for llama.cpp
    """  # noqa: D301 - click reads the character
    from localmtp.plan.planning import make_plan

    plan = make_plan(model, engine, ctx, drafter=drafter, bench=bench, offline=offline)
    if as_json:
        output.line(json.dumps(plan.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print(plan)


def _print(plan: EnginePlan) -> None:
    from localmtp.plan.recipe import shell

    recipe = plan.recipe
    commands = [shell(each) for each in recipe.commands]
    for line in [recipe.file.rstrip("\n")] if recipe.file else commands:
        output.line(line)
    facts = {
        "draft length": f"{plan.n_draft}: {plan.n_draft_from}",
        "memory": plan.memory,
        "expected gain": plan.pays,
        "checked": recipe.checked,
        "chat with it": f"localmtp chat --server {recipe.url} {recipe.served_as}".rstrip(),
    }
    if recipe.file:
        facts["then"] = " && ".join(commands)
    for name, words in facts.items():
        output.note(f"{name + ':':14} {words}")
    for note in recipe.notes:
        output.note(f"note: {note}")
    for warning in plan.warnings:
        output.warning(warning)
