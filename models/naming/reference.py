"""What a model's name asks for: a target on the hub and where its drafter is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from localmtp.errors import LocalmtpError
from localmtp.models.memory import placement
from localmtp.models.memory.available import room_here
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import Room
from localmtp.models.naming.registry import Entry, Quant, Source, drafter_for, find, nearest
from localmtp.models.store.cache import cached

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model on the hub, by name."""

    name: str
    """As shown to people."""
    target: Source
    """With an empty file, any of the repository that `label` asks for."""
    label: str
    """The quantization; empty for the best one for most people."""
    drafter: Source | None
    """Where the registry knows the drafter to be; None: beside the target, if anywhere."""
    first_draft_length: int | None = None
    """See `Entry.n_draft`."""


def is_registered(model: str) -> bool:
    """Whether the registry knows the name, with or without a quantization."""
    return find(model.partition(":")[0]) is not None


def wanted(model: str) -> Wanted:
    """Read `NAME[:QUANT]` or `USER/REPO[:QUANT]`.

    Raises:
        LocalmtpError: no such name or quantization, or none that fits this machine.
    """
    name, _, label = model.partition(":")
    entry = find(name)
    if entry is not None:
        quant = entry.quant(label) if label else _best_quant(entry)
        name = f"{entry.name}:{quant.label}"
        return Wanted(name, quant.target, quant.label, quant.drafter, entry.n_draft)
    if _REPOSITORY.fullmatch(name):
        return Wanted(model, Source(name, ""), label, drafter_for(name))
    near = " or ".join(f"`{n}`" for n in nearest(name))
    raise LocalmtpError(
        f"unknown model {model!r}",
        hint=f"did you mean {near}?"
        if near
        else "`localmtp list --all` shows the names; a local file ends in `.gguf`",
    )


def fits(entry: Entry, quant: Quant, room: Room) -> bool:
    """Whether a chat of some length fits; True where sizes are not known."""
    if entry.shape is None or not quant.nbytes:
        return True
    weights = Weights(quant.nbytes, quant.drafter_nbytes)
    return placement.fits(entry.shape, weights, room)


def _best_quant(entry: Entry) -> Quant:
    """The one that is here; else the first that fits."""
    for quant in entry.quants:
        if cached(quant.target):
            return quant
    room = room_here()
    for quant in entry.quants:
        if fits(entry, quant, room):
            return quant
    smallest = min(entry.quants, key=lambda quant: quant.nbytes)
    raise LocalmtpError(
        f"{entry.name} does not fit: its smallest file has {smallest.nbytes / 1e9:.1f} GB, "
        f"{room.total / 1e9:.1f} GB of memory can be used",
        hint=f"`{entry.name}:{smallest.label}` takes it all the same; "
        "`localmtp doctor` shows what fits",
    )
