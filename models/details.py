"""The report of `localmtp show`: everything known about a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from localmtp.engine.compatibility import TARGET
from localmtp.engine.families import family_of
from localmtp.engine.load_options import LoadOptions
from localmtp.engine.text.template_editions import template_name
from localmtp.errors import LocalmtpError
from localmtp.models.drafting import kinds_of_drafting
from localmtp.models.files import ModelFiles
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.gguf_settings import check_settings
from localmtp.models.listing import context_within
from localmtp.models.memory.available import available_memory, weights_on_disk
from localmtp.models.memory.estimate import Weights, estimate_memory
from localmtp.models.memory.placement import division, largest_context
from localmtp.models.memory.shape import ModelShape, shape_of
from localmtp.models.naming.pairing import DescribedFile
from localmtp.models.naming.quant import quant_label
from localmtp.models.naming.reference import parse_reference
from localmtp.models.naming.registry import Quant, RegistryEntry, find
from localmtp.models.resolution import is_on_hub, resolve
from localmtp.models.store.download import bytes_missing
from localmtp.models.store.local import describe
from localmtp.models.store.on_disk import target_on_disk
from localmtp.models.store.pull import PullPlan, plan_pull

ORIGINAL_KEY = "general.base_model.0.repo_url"
_CONTEXTS = (4096, 8192, 32768, 131072, 262144)


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """A model in full."""

    model: str
    installed: bool
    target: str
    """Path of the target; `USER/REPO/FILE` unless installed."""
    bytes: int
    """Size of the target; approximate if the hub was not asked."""
    download: int
    """Bytes of target, drafter and projector still to be downloaded."""
    drafter: str
    why_drafter: str
    """Reason why the drafter belongs to the target."""
    why_no_drafter: str
    warnings: tuple[str, ...]
    quant: str
    qat: bool
    """Quantization-aware training."""
    licence: str
    original: str
    """Checkpoint that the files were made from; empty if unknown."""
    chat_template: str
    """Edition of the chat template; empty if no header was read."""
    context_length: int
    projector: str
    """Path of the projector; `USER/REPO/FILE` unless installed; empty without one."""
    first_draft_length: int | None
    """Draft length that published measurements recommend to start with."""
    memory: tuple[dict[str, int], ...]
    """`context` in tokens with the `bytes` of a loaded pair."""
    context_here: int
    """Largest context that fits into free memory, in tokens; 0 if none does."""
    division_here: str
    """What would be on the GPU; empty without one, or if the pair does not fit."""
    drafting: Mapping[str, str] = field(default_factory=dict)
    """What each kind of drafting needs, or why it is not possible; empty if no header was read."""
    media: tuple[str, ...] = ()
    """Kinds of media that the projector encodes, `image` and `audio`; empty if it was not read."""
    why_no_projector: str = ""
    projector_bytes: int = 0
    """Size of the projector; 0 without one, or if it is unknown."""
    embedding_length: int | None = None
    """None, as the fields below, if no header was read."""
    n_layers: int | None = None
    n_vocab: int | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Recommended `temperature`, `top_k`, `top_p` and `min_p`: the file's, else the family's."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return asdict(self)


def model_details(model: str, *, drafter: str | None = None, offline: bool = False) -> ModelDetails:
    """Describes a model from its files, from the hub, or from the registry alone.

    Args:
        model: see `resolve`.
        drafter: path of another drafter than the model's own.
        offline: do not ask the hub about a model that is not installed.

    Raises:
        LocalmtpError: an unknown name, or one that is in no registry while the hub fails; a drafter
            for a model that is not on this machine, or for another target.
    """
    entry = find(model.partition(":")[0])
    if not is_on_hub(model) or target_on_disk(parse_reference(model)):
        return _from_files(resolve(model, drafter=drafter, offline=True), entry)
    reference = parse_reference(model)
    if drafter:
        raise LocalmtpError(
            f"{reference.name} is not on this machine, so {drafter} cannot be compared with it",
            hint=f"`localmtp pull {model}`",
        )
    try:
        if offline:
            raise LocalmtpError(
                f"{reference.name} is not on this machine", hint="ask the hub: leave out --offline"
            )
        return _from_hub(plan_pull(reference), entry)
    except LocalmtpError as fault:
        if entry is None:
            raise
        return _from_registry(entry, entry.quant(reference.label), fault.message)


def _from_files(files: ModelFiles, entry: RegistryEntry | None) -> ModelDetails:
    header = read_header(files.target)
    check_settings(header, str(files.target), complete=True)
    return ModelDetails(
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
        projector=str(files.projector or ""),
        drafting=kinds_of_drafting(
            describe(files.target).traits,
            drafter=str(files.drafter or ""),
            why_not=files.why_no_drafter,
        ),
        media=files.media,
        why_no_projector=files.why_no_projector,
        **_from_header(header, weights_on_disk(files), entry),
    )


def _from_hub(plan: PullPlan, entry: RegistryEntry | None) -> ModelDetails:
    first = plan.target[0]
    return ModelDetails(
        model=plan.name,
        installed=False,
        target=str(first),
        download=bytes_missing(plan.files),
        drafter=str(plan.drafter.file or ""),
        why_drafter=plan.drafter.why,
        why_no_drafter=plan.drafter.why_not,
        warnings=plan.drafter.warnings,
        quant=quant_label(first.name),
        qat=plan.qat,
        projector=str(plan.projector.file or ""),
        drafting=kinds_of_drafting(
            DescribedFile(str(first), plan.header).traits,
            drafter=str(plan.drafter.file or ""),
            why_not=plan.drafter.why_not,
        ),
        media=plan.projector.media,
        why_no_projector=plan.projector.why_not,
        **_from_header(plan.header, plan.weights, entry),
    )


def _from_header(header: Header, weights: Weights, entry: RegistryEntry | None) -> dict[str, Any]:
    """Returns the fields that follow from the header of a target."""
    limit, shape = header.number("context_length"), shape_of(header)
    return {
        "bytes": weights.target,
        "licence": str(header.values.get("general.license", entry.licence if entry else "")),
        "original": entry.original if entry else str(header.values.get(ORIGINAL_KEY, "")),
        "chat_template": template_name(str(header.values.get("tokenizer.chat_template", ""))),
        "context_length": limit,
        "embedding_length": header.number("embedding_length"),
        "n_layers": header.number("block_count"),
        "n_vocab": header.n_vocab,
        "sampling": _sampling(header),
        "projector_bytes": weights.projector,
        "first_draft_length": entry.n_draft if entry else None,
        "memory": _memory(shape, weights, limit),
        "context_here": largest_context(shape, weights, limit, budget := available_memory()),
        "division_here": division(shape, weights, limit, budget),
    }


def _from_registry(entry: RegistryEntry, quant: Quant, reason: str) -> ModelDetails:
    weights = quant.sizes
    return ModelDetails(
        model=f"{entry.name}:{quant.label}",
        installed=False,
        target=str(quant.target),
        bytes=quant.nbytes,
        download=weights.on_disk,
        drafter=str(quant.drafter or (quant.target if quant.head else "")),
        why_drafter="listed in the registry" if quant.drafter else quant.drafter_name,
        why_no_drafter="",
        warnings=(f"from the registry, because {reason}",),
        quant=quant.label,
        qat=quant.qat,
        licence=entry.licence,
        original=entry.original,
        chat_template="",
        context_length=entry.context,
        projector=str(entry.projector or ""),
        projector_bytes=quant.projector_nbytes,
        first_draft_length=entry.n_draft,
        memory=_memory(entry.shape, weights, entry.context) if entry.shape else (),
        context_here=context_within(entry, quant, budget := available_memory()),
        division_here=division(entry.shape, weights, entry.context, budget) if entry.shape else "",
        sampling=family_of("qwen35" if entry.original.startswith("Qwen/") else TARGET).sampling,
    )


def _sampling(header: Header) -> dict[str, float]:
    name = str(header.values.get("general.name", ""))
    found = dict(family_of(header.architecture, name).sampling)
    for key in ("temp", "top_k", "top_p", "min_p"):
        value = header.values.get(f"general.sampling.{key}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            found["temperature" if key == "temp" else key] = value
    return found


def _memory(shape: ModelShape, weights: Weights, limit: int) -> tuple[dict[str, int], ...]:
    contexts = [context for context in _CONTEXTS if context < limit] + [limit]
    return tuple(
        {
            "context": context,
            "bytes": estimate_memory(shape, weights, LoadOptions(context=context)).total,
        }
        for context in contexts
    )
