"""All that there is to say about a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from localmtp.errors import LocalmtpError
from localmtp.models.files import ModelFiles
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.listing import context_within
from localmtp.models.memory.available import room_here, weights_on_disk
from localmtp.models.memory.estimate import Load, Weights, need
from localmtp.models.memory.placement import largest_context
from localmtp.models.memory.shape import Shape, shape_of
from localmtp.models.naming.quant import quant_label
from localmtp.models.naming.reference import wanted
from localmtp.models.naming.registry import Entry, Quant, find
from localmtp.models.resolution import is_on_hub, resolve
from localmtp.models.store.download import bytes_missing
from localmtp.models.store.local import describe
from localmtp.models.store.on_disk import target_on_disk
from localmtp.models.store.pull import Plan, plan

_ORIGINAL = "general.base_model.0.repo_url"
_CONTEXTS = (4096, 8192, 32768, 131072, 262144)


@dataclass(frozen=True, slots=True)
class About:
    """A model in full."""

    model: str
    installed: bool
    target: str
    """Its path; for a model that is not here, its place on the hub."""
    bytes: int
    """Of the target; about, where the hub was not asked."""
    download: int
    """What is still to be downloaded of target and drafter."""
    drafter: str
    why_drafter: str
    """What makes it the target's."""
    why_no_drafter: str
    warnings: tuple[str, ...]
    quant: str
    qat: bool
    licence: str
    original: str
    """The checkpoint that it was made from, where that is known."""
    context_length: int
    projector: str
    """On the hub, where the registry knows it: what images would need; it is not downloaded."""
    first_draft_length: int | None
    """What published measurements advise to begin with."""
    memory: tuple[dict[str, int], ...]
    """`context` in tokens and `bytes` of a loaded pair."""
    context_here: int
    """The largest that fits this machine now; 0 when none does."""
    embedding_length: int | None = None
    """This and what follows is not known before a file's header was read."""
    n_layers: int | None = None
    n_vocab: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def about(model: str, *, offline: bool = False) -> About:
    """Everything about a model: from its files, from the hub, or from the registry alone.

    Args:
        model: as for `resolve`.
        offline: do not ask the hub about a model that is not here.

    Raises:
        LocalmtpError: there is no such model, or the hub cannot tell and the registry does not.
    """
    entry = find(model.partition(":")[0])
    if not is_on_hub(model) or target_on_disk(wanted(model)):
        return _from_files(resolve(model, offline=True), entry)
    named = wanted(model)
    try:
        if offline:
            raise LocalmtpError(f"{named.name} is not on this machine")
        return _from_hub(plan(named), entry)
    except LocalmtpError as fault:
        if entry is None:
            raise
        return _from_registry(entry, entry.quant(named.label), fault.message)


def _from_files(files: ModelFiles, entry: Entry | None) -> About:
    return About(
        model=files.name,
        installed=True,
        target=str(files.target),
        download=0,
        drafter=str(files.drafter or ""),
        why_drafter=files.why_drafter,
        why_no_drafter=files.why_no_drafter,
        warnings=files.warnings,
        quant=quant_label(files.target.name),
        qat=describe(files.target).qat,
        **_from_header(read_header(files.target), weights_on_disk(files), entry),
    )


def _from_hub(found: Plan, entry: Entry | None) -> About:
    first = found.target[0]
    return About(
        model=found.name,
        installed=False,
        target=str(first),
        download=bytes_missing(found.files),
        drafter=str(found.drafter.file or ""),
        why_drafter=found.drafter.why,
        why_no_drafter=found.drafter.why_not,
        warnings=found.drafter.warnings,
        quant=quant_label(first.name),
        qat=found.qat,
        **_from_header(found.header, found.weights, entry),
    )


def _from_header(header: Header, weights: Weights, entry: Entry | None) -> dict[str, Any]:
    """What a target's header says, and what follows from it."""
    limit, shape = header.number("context_length"), shape_of(header)
    return {
        "bytes": weights.target,
        "licence": str(header.values.get("general.license", entry.licence if entry else "")),
        "original": entry.original if entry else str(header.values.get(_ORIGINAL, "")),
        "context_length": limit,
        "embedding_length": header.number("embedding_length"),
        "n_layers": header.number("block_count"),
        "n_vocab": header.n_vocab,
        "projector": str(entry.projector or "") if entry else "",
        "first_draft_length": entry.n_draft if entry else None,
        "memory": _memory(shape, weights, limit),
        "context_here": largest_context(shape, weights, limit, room_here()),
    }


def _from_registry(entry: Entry, quant: Quant, why: str) -> About:
    weights = Weights(quant.nbytes, quant.drafter_nbytes)
    return About(
        model=f"{entry.name}:{quant.label}",
        installed=False,
        target=str(quant.target),
        bytes=quant.nbytes,
        download=quant.nbytes + quant.drafter_nbytes,
        drafter=str(quant.drafter or ""),
        why_drafter="the registry says so",
        why_no_drafter="",
        warnings=(f"from the registry, as {why}",),
        quant=quant.label,
        qat=quant.qat,
        licence=entry.licence,
        original=entry.original,
        context_length=entry.context,
        projector=str(entry.projector or ""),
        first_draft_length=entry.n_draft,
        memory=_memory(entry.shape, weights, entry.context) if entry.shape else (),
        context_here=context_within(entry, quant, room_here()),
    )


def _memory(shape: Shape, weights: Weights, limit: int) -> tuple[dict[str, int], ...]:
    contexts = [c for c in _CONTEXTS if c < limit] + [limit]
    return tuple({"context": c, "bytes": need(shape, weights, Load(c)).total} for c in contexts)
