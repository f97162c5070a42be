"""References to models on the hub: `NAME[:QUANT]` and `USER/REPO[:QUANT]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from localmtp.errors import LocalmtpError
from localmtp.models.memory import placement
from localmtp.models.memory.available import available_memory
from localmtp.models.memory.placement import MemoryBudget
from localmtp.models.naming.hub_address import hub_name
from localmtp.models.naming.registry import (
    HubFile,
    Quant,
    RegistryEntry,
    drafter_for,
    find,
    projector_for,
    similar_names,
)
from localmtp.models.store.cache import cached

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model on the hub."""

    name: str
    """Display name."""
    target: HubFile
    """With an empty file name, the file of the repository that `label` selects."""
    label: str
    """Quantization type; empty for the best general-purpose one."""
    drafter: HubFile | None
    """Drafter known to the registry; None to look in the target's repository."""
    first_draft_length: int | None = None
    """See `RegistryEntry.n_draft`."""
    projector: HubFile | None = None
    """Projector known to the registry; None to look in the target's repository."""


def is_registered(model: str) -> bool:
    """Reports whether the registry has the name, with or without a quantization type."""
    return find(model.partition(":")[0]) is not None


def parse_reference(model: str) -> ModelReference:
    """Parses `NAME[:QUANT]` or `USER/REPO[:QUANT]`.

    Raises:
        LocalmtpError: there is no such name or quantization type, or none fits this machine.
    """
    model = hub_name(model)
    name, _, label = model.partition(":")
    entry = find(name)
    if entry is not None:
        quant = entry.quant(label) if label else _best_quant(entry)
        name = f"{entry.name}:{quant.label}"
        return ModelReference(
            name, quant.target, quant.label, quant.drafter, entry.n_draft, entry.projector
        )
    if _REPOSITORY.fullmatch(name):
        return ModelReference(
            model,
            HubFile(name, ""),
            label,
            drafter_for(name),
            projector=projector_for(name),
        )
    *others, last = [f"`{n}`" for n in similar_names(name)] or [""]
    similar = f"{', '.join(others)} or {last}" if others else last
    raise LocalmtpError(
        f"unknown model {model!r}",
        hint=f"did you mean {similar}?"
        if similar
        else "`localmtp list --all` shows the names; a local file ends in `.gguf`",
    )


def fits(entry: RegistryEntry, quant: Quant, budget: MemoryBudget) -> bool:
    """Reports whether a chat of some length fits; True if sizes are unknown."""
    if entry.shape is None or not quant.nbytes:
        return True
    weights = quant.sizes
    return placement.fits(entry.shape, weights, budget)


def _best_quant(entry: RegistryEntry) -> Quant:
    """Returns an installed one, else the first that fits."""
    for quant in entry.quants:
        if cached(quant.target):
            return quant
    budget = available_memory()
    for quant in entry.quants:
        if fits(entry, quant, budget):
            return quant
    smallest = min(entry.quants, key=lambda quant: quant.nbytes)
    raise LocalmtpError(
        f"{entry.name} does not fit: its smallest file has {smallest.nbytes / 1e9:.1f} GB, "
        f"{budget.total / 1e9:.1f} GB of memory can be used",
        hint=f"`{entry.name}:{smallest.label}` loads it anyway; `localmtp doctor` shows what fits",
    )
