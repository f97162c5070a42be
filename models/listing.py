"""Rows of `localmtp list`: models on this machine, and registry models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from localmtp.engine.compatibility import HEAD_IN_FILE
from localmtp.models.memory.placement import MemoryBudget, largest_context
from localmtp.models.naming.registry import Quant, RegistryEntry, entries
from localmtp.models.store.cache import cached
from localmtp.models.store.installed import InstalledModel


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model in a list."""

    model: str
    quant: str
    bytes: int
    """Size of the target; approximate unless installed."""
    drafter: str
    """File name of the drafter, `MTP head in the file` for a part of the target's, or empty."""
    installed: bool
    last_used: str
    """ISO date, as precise as the file system records it; empty unless installed."""
    context: int
    """Largest context that fits into free memory, in tokens; 0 if none does."""
    projector: str = ""
    """File name of the projector; empty without one."""
    total_bytes: int = 0
    """Size of target, drafter and projector."""


def installed_row(model: InstalledModel, budget: MemoryBudget) -> ListedModel:
    """Returns the row of a model on this machine."""
    return ListedModel(
        model=model.name,
        quant=model.label,
        bytes=model.weights,
        drafter=_drafter_name(model),
        installed=True,
        last_used=datetime.fromtimestamp(model.last_used, UTC).date().isoformat(),
        context=model.context_within(budget),
        projector=model.projector.name if model.projector else "",
        total_bytes=model.sizes.on_disk,
    )


def _drafter_name(model: InstalledModel) -> str:
    if model.drafter in model.target:
        return HEAD_IN_FILE
    return model.drafter.name if model.drafter else ""


def registry_rows(budget: MemoryBudget) -> list[ListedModel]:
    """Returns a row for every registry model that is not installed."""
    return [
        ListedModel(
            model=f"{entry.name}:{quant.label}",
            quant=quant.label,
            bytes=quant.nbytes,
            drafter=quant.drafter_name,
            installed=False,
            last_used="",
            context=context_within(entry, quant, budget),
            projector=Path(entry.projector.file).name if entry.projector else "",
            total_bytes=quant.sizes.on_disk,
        )
        for entry in entries().values()
        for quant in entry.quants
        if not cached(quant.target)
    ]


def context_within(entry: RegistryEntry, quant: Quant, budget: MemoryBudget) -> int:
    """Returns the largest context of a registry model that fits, in tokens; 0 for none."""
    if entry.shape is None or not quant.nbytes:
        return 0
    weights = quant.sizes
    return largest_context(entry.shape, weights, entry.context, budget)
