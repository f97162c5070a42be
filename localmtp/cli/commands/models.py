"""`localmtp pull`, `list`, `show` and `rm`: models on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.model_argument import MODEL
from localmtp.cli.table import gigabytes, table, tokens
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.models.store.installed import InstalledModel
    from localmtp.models.store.pull import PullPlan


@click.command()
@click.argument("model", type=MODEL)
@click.option("--verify", is_flag=True, help="Compute the hashes of cached files too.")
@click.option("--no-media", is_flag=True, help="Without the projector for images and sound.")
def pull(model: str, verify: bool, no_media: bool) -> None:
    """Download MODEL, its drafter and its projector, or update them.

    MODEL is a name that `localmtp list --all` shows, or USER/REPO[:QUANT] of the Hugging Face hub.
    """
    from localmtp.cli.download_progress import DownloadProgress
    from localmtp.models.naming.reference import parse_reference
    from localmtp.models.store.pull import plan_pull, pull

    if model == "nano":
        raise LocalmtpError("nano ships with localmtp; there is nothing to download")
    found = plan_pull(parse_reference(model), with_projector=not no_media)
    _print_download(found)
    with DownloadProgress() as progress:
        files = pull(found, progress, verify=verify)
    for warning in files.warnings:
        output.warning(warning)
    parts = [files.target.name]
    if files.drafter:
        name = files.drafter_file.name if files.drafter_file else files.drafter_name
        parts.append(f"drafter {name}")
    if files.projector:
        parts.append(f"projector {files.projector.name} ({_media(files.media)})")
    output.line(f"{files.name}: {', '.join(parts)}")
    if not files.drafter:
        output.warning(f"no drafter: {files.why_no_drafter}")
    if not files.projector and not no_media:
        output.note(f"no images or sound: {files.why_no_projector}")


def _print_download(found: PullPlan) -> None:
    """Print the size of a download, and whether the model fits this machine."""
    from localmtp.models.store.download import bytes_missing

    missing = bytes_missing(found.files)
    if missing:
        output.note(f"{found.name}: {gigabytes(missing)} to download, {_fits(found.context)}")
    if found.shortage:
        output.warning(found.shortage)


def _media(kinds: Iterable[str]) -> str:
    """Name kinds of media."""
    return " and ".join({"image": "images", "audio": "sound"}[kind] for kind in kinds)


def _fits(context: int) -> str:
    return (
        f"fits this machine with a context of {tokens(context)}"
        if context
        else "does not fit this machine"
    )


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Include models that can be pulled.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
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
            gigabytes(r.total_bytes),
            r.drafter or "none",
            r.projector or "none",
            f"{tokens(r.context)} tokens" if r.context else "no",
            r.last_used if r.installed else "not here",
        )
        for r in rows
    ]
    head = ("model", "quant", "size", "drafter", "projector", "fits with", "last used")
    table(head, words)
    if not everything:
        output.hint("`localmtp list --all` includes models that can be pulled")


@click.command(short_help="Show properties of MODEL and the memory it needs.")
@click.argument("model", type=MODEL)
@click.option("--offline", is_flag=True, help="Do not use the network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(model: str, offline: bool, as_json: bool) -> None:
    """Show MODEL's properties, its drafter and projector, and the memory it needs.

    MODEL is a name that `localmtp list --all` shows, USER/REPO[:QUANT] of the Hugging Face hub, or
    a GGUF file. Only the headers of models on the hub are read.
    """
    from localmtp.models.details import model_details

    facts = model_details(model, offline=offline).as_dict()
    if as_json:
        output.line(json.dumps(facts, indent=2))
        return
    memory = facts.pop("memory")
    facts["media"] = _media(facts["media"])
    facts["projector_size"] = gigabytes(size) if (size := facts.pop("projector_bytes")) else ""
    facts["size"] = gigabytes(facts.pop("bytes"))
    facts["download"] = gigabytes(facts["download"]) if facts["download"] else ""
    facts["here"] = _fits(facts.pop("context_here"))
    drafting = facts.pop("drafting")
    for name, value in facts.items():
        if value not in ("", None, (), {}):
            output.line(f"{name.replace('_', ' '):18}  {_formatted(value)}")
    for kind, words in drafting.items():
        output.line(f"{kind:18}  {words}")
    for need in memory:
        words = f"memory at {tokens(need['context'])}"
        output.line(f"{words:18}  {gigabytes(need['bytes'])}")


def _formatted(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key.replace('_', '-')} {each:g}" for key, each in value.items())
        case tuple():
            return "; ".join(map(str, value))
        case _:
            return str(value)


@click.command(short_help="Delete MODEL from this machine.")
@click.argument("model", type=MODEL)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
def rm(model: str, yes: bool) -> None:
    """Delete MODEL from this machine, except a drafter or projector that another model needs."""
    from localmtp.models.store.installed import installed_models, remove

    if model == "nano":
        raise LocalmtpError("nano ships with localmtp and cannot be deleted")
    here = installed_models()
    doomed = _named(model, here)
    if not yes:
        size = gigabytes(doomed.sizes.on_disk)
        click.confirm(f"Delete {doomed.name} ({size})?", abort=True, err=True)
    freed = remove(doomed, [other for other in here if other is not doomed])
    output.line(f"freed {gigabytes(freed)}")


def _named(model: str, here: Sequence[InstalledModel]) -> InstalledModel:
    """Return the installed model of a name.

    Raises:
        LocalmtpError: there is none, or there are several.
    """
    from localmtp.models.naming.registry import find
    from localmtp.models.resolution import is_on_hub

    if not is_on_hub(model):
        raise LocalmtpError(
            f"{model} is a file of your own, not a downloaded model", hint="delete the file itself"
        )
    name, _, label = model.partition(":")
    entry = find(name)
    stem = entry.name if entry else name
    matches = [m for m in here if m.name == (f"{stem}:{label.upper()}" if label else m.name)]
    matches = [m for m in matches if m.name.partition(":")[0] == stem]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise LocalmtpError(
            f"{model} is installed more than once", hint=f"one of: {_names(matches)}"
        )
    raise LocalmtpError(f"{model} is not on this machine", hint=f"installed: {_names(here)}")


def _names(models: Iterable[InstalledModel]) -> str:
    return ", ".join(m.name for m in models) or "none"
