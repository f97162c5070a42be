"""Models in a list: those on this machine, and those that could be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import Room, largest_context
from localmtp.models.naming.registry import Entry, Quant, entries
from localmtp.models.store.cache import cached
from localmtp.models.store.installed import Installed


@dataclass(frozen=True, slots=True)
class Row:
    """A model in a list."""

    model: str
    quant: str
    bytes: int
    """Of the target's file; about, for models that are not here."""
    drafter: str
    """Its file; empty without one."""
    installed: bool
    last_used: str
    """The day, as far as the file system tells; empty for models that are not here."""
    context: int
    """The largest that fits the memory that can be used now; 0 when none does."""


def row(model: Installed, room: Room) -> Row:
    """The row of a model on this machine, which has that room."""
    return Row(
        model=model.name,
        quant=model.label,
        bytes=model.weights,
        drafter=model.drafter.name if model.drafter else "",
        installed=True,
        last_used=datetime.fromtimestamp(model.last_used, UTC).date().isoformat(),
        context=model.context_within(room),
    )


def rows_to_pull(room: Room) -> list[Row]:
    """A row for every model of the registry that is not here."""
    return [
        Row(
            model=f"{entry.name}:{quant.label}",
            quant=quant.label,
            bytes=quant.nbytes,
            drafter=Path(quant.drafter.file).name if quant.drafter else "",
            installed=False,
            last_used="",
            context=context_within(entry, quant, room),
        )
        for entry in entries().values()
        for quant in entry.quants
        if not cached(quant.target)
    ]


def context_within(entry: Entry, quant: Quant, room: Room) -> int:
    """The largest context of a registry model that fits; 0 for none."""
    if entry.shape is None or not quant.nbytes:
        return 0
    weights = Weights(quant.nbytes, quant.drafter_nbytes)
    return largest_context(entry.shape, weights, entry.context, room)
