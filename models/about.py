"""What there is to say about models: one row each for a list, and all of it for one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localmtp.models.cache import cached
from localmtp.models.choice import quant_label
from localmtp.models.files import ModelFiles
from localmtp.models.fit import Load, Weights, need
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.installed import Installed
from localmtp.models.local import describe
from localmtp.models.on_disk import target_on_disk
from localmtp.models.placement import Room, largest_context
from localmtp.models.registry import Entry, Quant, entries, find
from localmtp.models.resolution import resolve
from localmtp.models.shape import Shape, shape_of
from localmtp.models.wanted import wanted

_CONTEXTS = (4096, 8192, 32768, 131072, 262144)


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


@dataclass(frozen=True, slots=True)
class About:
    """A model in full."""

    model: str
    installed: bool
    target: str
    """Its path; for a model that is not here, its place on the hub."""
    bytes: int
    """Of the target; about, for a model that is not here."""
    drafter: str
    why_no_drafter: str
    warnings: tuple[str, ...]
    quant: str
    qat: bool
    licence: str
    original: str
    """The checkpoint that it was made from, where that is known."""
    context_length: int
    first_draft_length: int | None
    """What published measurements advise to begin with."""
    memory: tuple[dict[str, int], ...]
    """`context` in tokens and `bytes` of a loaded pair."""
    embedding_length: int | None = None
    """This and what follows is known of models that are here."""
    n_layers: int | None = None
    n_vocab: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


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


def about(model: str) -> About:
    """Everything about a model on this machine, or what the registry says of one that is not.

    Raises:
        LocalmtpError: there is no such model.
    """
    entry = find(model.partition(":")[0])
    if entry is not None and target_on_disk(wanted(model)) is None:
        label = wanted(model).label
        return _from_registry(entry, entry.quant(label))
    return _from_files(resolve(model, offline=True), entry)


def _from_files(files: ModelFiles, entry: Entry | None) -> About:
    header = read_header(files.target)
    weights = files.target.stat().st_size
    drafter = files.drafter.stat().st_size if files.drafter else 0
    limit = header.number("context_length")
    return About(
        model=files.name,
        installed=True,
        target=str(files.target),
        bytes=weights,
        drafter=str(files.drafter or ""),
        why_no_drafter=files.why_no_drafter,
        warnings=files.warnings,
        quant=quant_label(files.target.name),
        qat=describe(files.target).qat,
        licence=str(header.values.get("general.license", entry.licence if entry else "")),
        original=entry.original if entry else _original(header),
        context_length=limit,
        embedding_length=header.number("embedding_length"),
        n_layers=header.number("block_count"),
        n_vocab=header.n_vocab,
        first_draft_length=entry.n_draft if entry else None,
        memory=_memory(shape_of(header), Weights(weights, drafter), limit),
    )


def _from_registry(entry: Entry, quant: Quant) -> About:
    weights = Weights(quant.nbytes, quant.drafter_nbytes)
    return About(
        model=f"{entry.name}:{quant.label}",
        installed=False,
        target=str(quant.target),
        bytes=quant.nbytes,
        drafter=str(quant.drafter or ""),
        why_no_drafter="",
        warnings=(),
        quant=quant.label,
        qat=quant.qat,
        licence=entry.licence,
        original=entry.original,
        context_length=entry.context,
        first_draft_length=entry.n_draft,
        memory=_memory(entry.shape, weights, entry.context) if entry.shape else (),
    )


def _memory(shape: Shape, weights: Weights, limit: int) -> tuple[dict[str, int], ...]:
    contexts = [c for c in _CONTEXTS if c < limit] + [limit]
    return tuple({"context": c, "bytes": need(shape, weights, Load(c)).total} for c in contexts)


def _original(header: Header) -> str:
    return str(header.values.get("general.base_model.0.repo_url", ""))
