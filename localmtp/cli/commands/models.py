"""`localmtp pull`, `list`, `show` and `rm`: the models on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.table import gigabytes, table, tokens
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.models.store.installed import InstalledModel
    from localmtp.models.store.pull import PullPlan


@click.command()
@click.argument("model")
def pull(model: str) -> None:
    """Download MODEL and its drafter, or what has changed of them.

    MODEL is a name that `localmtp list --all` shows, or USER/REPO[:QUANT] of the Hugging Face hub.
    """
    from localmtp.cli.download_progress import DownloadProgress
    from localmtp.models.naming.reference import parse_reference
    from localmtp.models.store.pull import plan_pull, pull

    if model == "nano":
        raise LocalmtpError("nano ships with localmtp: there is nothing to download")
    found = plan_pull(parse_reference(model))
    _say_what_is_missing(found)
    with DownloadProgress() as progress:
        files = pull(found, progress)
    for warning in files.warnings:
        click.echo(f"warning: {warning}", err=True)
    if files.drafter:
        output.line(f"{files.name} is here: {files.target.name}, drafter {files.drafter.name}")
    else:
        output.line(f"{files.name} is here: {files.target.name}")
        click.echo(f"warning: it has no drafter: {files.why_no_drafter}", err=True)


def _say_what_is_missing(found: PullPlan) -> None:
    """Before anything is downloaded: how much it is, and whether it fits."""
    from localmtp.models.store.download import bytes_missing

    missing = bytes_missing(found.files)
    if missing:
        click.echo(
            f"{found.name}: {gigabytes(missing)} to download, {_fits(found.context)}", err=True
        )
    if found.shortage:
        click.echo(f"warning: {found.shortage}", err=True)


def _fits(context: int) -> str:
    return f"fits here with a context of {tokens(context)}" if context else "does not fit here"


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what could be pulled.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(everything: bool, as_json: bool) -> None:
    """Show the models on this machine."""
    from localmtp.models.listing import installed_row, registry_rows
    from localmtp.models.memory.available import available_memory
    from localmtp.models.store.installed import embedded_model, installed_models

    room = available_memory()
    here = sorted([embedded_model(), *installed_models()], key=lambda model: model.weights)
    rows = [installed_row(model, room) for model in here]
    if everything:
        rows += registry_rows(room)
    if as_json:
        output.line(json.dumps([asdict(r) for r in rows], indent=2))
        return
    words = [
        (
            r.model,
            r.quant,
            gigabytes(r.bytes),
            r.drafter or "none",
            f"{tokens(r.context)} tokens" if r.context else "no",
            r.last_used if r.installed else "not here",
        )
        for r in rows
    ]
    table(("model", "quant", "size", "drafter", "fits with", "last used"), words)
    if not everything:
        click.echo("hint: `localmtp list --all` shows what can be pulled", err=True)


@click.command()
@click.argument("model")
@click.option("--offline", is_flag=True, help="Never ask the network.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(model: str, offline: bool, as_json: bool) -> None:
    """Show what MODEL is, how it is paired, and the memory that it needs.

    MODEL is a name that `localmtp list --all` shows, USER/REPO[:QUANT] of the Hugging Face hub, or
    a GGUF file. Of a model that is not here only the headers are read.
    """
    from localmtp.models.details import model_details

    facts = model_details(model, offline=offline).as_dict()
    if as_json:
        output.line(json.dumps(facts, indent=2))
        return
    memory = facts.pop("memory")
    facts["size"] = gigabytes(facts.pop("bytes"))
    facts["download"] = gigabytes(facts["download"]) if facts["download"] else ""
    facts["here"] = _fits(facts.pop("context_here"))
    for name, value in facts.items():
        if value not in ("", None, ()):
            output.line(f"{name.replace('_', ' '):18}  {_said(value)}")
    for need in memory:
        words = f"memory at {tokens(need['context'])}"
        output.line(f"{words:18}  {gigabytes(need['bytes'])}")


def _said(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return "; ".join(map(str, value))
        case _:
            return str(value)


@click.command()
@click.argument("model")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm(model: str, yes: bool) -> None:
    """Delete MODEL from this machine; a drafter that another model needs stays."""
    from localmtp.models.store.installed import installed_models, remove

    here = installed_models()
    doomed = _named(model, here)
    if not yes:
        click.confirm(f"Delete {doomed.name} ({gigabytes(doomed.weights)})?", abort=True, err=True)
    freed = remove(doomed, [other for other in here if other is not doomed])
    output.line(f"freed {gigabytes(freed)}")


def _named(model: str, here: Sequence[InstalledModel]) -> InstalledModel:
    """The one model on this machine that a name means."""
    from localmtp.models.naming.registry import find

    name, _, label = model.partition(":")
    entry = find(name)
    stem = entry.name if entry else name
    meant = [m for m in here if m.name == (f"{stem}:{label.upper()}" if label else m.name)]
    meant = [m for m in meant if m.name.partition(":")[0] == stem]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise LocalmtpError(f"{model} is here more than once", hint=f"say which: {_names(meant)}")
    raise LocalmtpError(f"{model} is not on this machine", hint=f"these are: {_names(here)}")


def _names(models: Iterable[InstalledModel]) -> str:
    return ", ".join(m.name for m in models) or "none"
