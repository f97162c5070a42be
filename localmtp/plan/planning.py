"""Planning: files, draft length and expectations for an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from localmtp.bench.result_store import StoredResult, read_result, stored_results
from localmtp.engine.compatibility import DrafterKind
from localmtp.errors import LocalmtpError
from localmtp.models.details import ORIGINAL_KEY, ModelDetails, model_details
from localmtp.models.naming.hub_address import hub_name
from localmtp.models.naming.pairing import kind_of
from localmtp.models.naming.registry import RegistryEntry, entries, find
from localmtp.models.store.cache import cached
from localmtp.models.store.local import describe
from localmtp.paths import bench_results
from localmtp.plan import llama_cpp, ollama, vllm
from localmtp.plan.recipe import LaunchRecipe, PlannedPair

_RECIPES: Mapping[str, Callable[[PlannedPair], LaunchRecipe]] = {
    "vllm": vllm.recipe,
    "llama.cpp": llama_cpp.recipe,
    "ollama": ollama.recipe,
}
ENGINES = tuple(_RECIPES)

_DEFAULT_LENGTH = 3
"""Draft length without measurements: llama.cpp's default."""

_CHEAP = 0.8
"""A target that reads a smaller share of its weights per pass is cheap for its size; dense ones
read all but embeddings."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """A plan for running a model on another engine."""

    model: str
    engine: str
    n_draft: int
    """Draft length in tokens; 0 turns drafting off."""
    n_draft_from: str
    """Source of the draft length."""
    context: int
    recipe: LaunchRecipe
    memory: str
    pays: str
    """Expected gain from drafting."""
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return asdict(self)


def make_plan(
    model: str,
    engine: str,
    context: int,
    *,
    drafter: str | None = None,
    bench: Path | None = None,
    offline: bool = False,
) -> EnginePlan:
    """Plans how to run a model on an engine; nothing is downloaded or loaded.

    Args:
        model: see `localmtp.models.resolve`.
        engine: one of `ENGINES`.
        context: in tokens; limited to the model's own.
        drafter: path of another drafter than the model's own.
        bench: a report of `bench --json`; None for the latest saved one, if any.
        offline: do not ask the hub about a model that is not installed.

    Raises:
        LocalmtpError: an unknown model, a model without drafter, or an engine that cannot run it.
    """
    entry = _entry(model)
    found = model_details(_with_quant(model, entry), drafter=drafter, offline=offline)
    if not found.drafter and engine != "vllm":
        reason = found.why_no_drafter or f"the registry lists no drafter for {found.model}"
        if drafter:
            reason = f"`--drafter {drafter}` names no file to plan with"
        raise LocalmtpError(reason, hint="plans are for models with a drafter, such as gemma4-e4b")
    context = min(context, found.context_length or context)
    original = entry.original if entry else ""
    draft_model = drafter is not None and _is_draft_model(found)
    if draft_model and not original:
        original = _checkpoint(found.original)
    n_draft, reason = _length(engine, found, original, bench, draft_model=draft_model)
    pair = PlannedPair(
        name=found.model,
        target=found.target,
        drafter=found.drafter,
        projector=found.projector,
        installed=found.installed,
        original=original,
        context=context,
        n_draft=n_draft,
        draft_model=draft_model,
        drafter_original=_original_of(found.drafter) if draft_model else "",
        sampling=found.sampling,
    )
    return EnginePlan(
        model=found.model,
        engine=engine,
        n_draft=n_draft,
        n_draft_from=reason,
        context=context,
        recipe=_RECIPES[engine](pair),
        memory=vllm.memory(original) if engine == "vllm" else _memory(found, context),
        pays=_pays(None if draft_model else entry) if n_draft else "none: the plan does not draft",
        warnings=found.warnings,
    )


def _entry(model: str) -> RegistryEntry | None:
    """Returns the registry entry of a name, or of a repository."""
    name = model.partition(":")[0]
    repositories = (
        (entry, quant.target.repo) for entry in entries().values() for quant in entry.quants
    )
    return find(name) or next((entry for entry, repo in repositories if repo == name), None)


def _with_quant(model: str, entry: RegistryEntry | None) -> str:
    """Adds a quantization type to a registry name: an installed one, else the first.

    The first need not fit this machine: a plan may be for a larger one.
    """
    if entry is None or ":" in model:
        return model
    quants = [quant for quant in entry.quants if quant.target.repo == model] or entry.quants
    installed = (quant for quant in quants if cached(quant.target))
    return f"{entry.name}:{next(installed, quants[0]).label}"


def _is_draft_model(found: ModelDetails) -> bool:
    """Returns whether the drafter on disk is a smaller model, not one that was made to draft."""
    if not found.drafter or found.drafter == found.target:
        return False
    files = describe(Path(found.target)), describe(Path(found.drafter))
    return kind_of(*files) is DrafterKind.MODEL


def _original_of(file: str) -> str:
    """Returns the checkpoint on the hub that a file was made from; empty if it names none."""
    return _checkpoint(str(describe(Path(file)).header.values.get(ORIGINAL_KEY, "")))


def _checkpoint(address: str) -> str:
    """Returns `USER/REPO` of an address of the hub; empty for others."""
    name = hub_name(address) if address else ""
    return name if name.count("/") == 1 and ":" not in name else ""


def _length(
    engine: str, found: ModelDetails, original: str, bench: Path | None, *, draft_model: bool
) -> tuple[int, str]:
    """Returns the draft length in tokens, and its source."""
    if engine == "ollama" and draft_model:
        return 0, "Ollama drafts with MTP drafters only, and the drafter is a draft model"
    if draft_model:
        if bench:
            return _fastest(read_result(bench))
        return _DEFAULT_LENGTH, "llama.cpp's default; `bench --drafter` finds the best one"
    if engine == "ollama" and found.drafter == found.target:
        return 0, "Ollama drafts only with a file of its own, and the head is in the target's"
    if bench or engine != "vllm":
        reports = [read_result(bench)] if bench else stored_results(found.model, bench_results())
        if reports:
            return _fastest(reports[0])
    if engine == "vllm" and (length := vllm.recommended_draft_length(original)):
        return length, "recommended by vLLM's recipe, from measurements on A100 and H100"
    if found.first_draft_length:
        return (
            found.first_draft_length,
            "published measurements of llama.cpp; `bench` finds the best for a machine",
        )
    return _DEFAULT_LENGTH, "llama.cpp's default; `bench` finds the best for a machine"


def _fastest(result: StoredResult) -> tuple[int, str]:
    """Returns the fixed draft length that was fastest over all workloads; 0 counts too."""
    rates: dict[int, list[float]] = {}
    lowest = min(temperature for _, temperature, _ in result.rates())
    for (_, temperature, label), rate in result.rates().items():
        if label != "auto" and temperature == lowest:
            rates.setdefault(int(label), []).append(rate)
    if not rates:
        raise LocalmtpError(f"{result.path} holds no fixed draft length")
    best = max(rates, key=lambda length: geometric_mean(rates[length]))
    cpu = result.report["machine"]["cpu"]
    return best, f"fastest in `bench` on {cpu} ({result.name})"


def _memory(found: ModelDetails, context: int) -> str:
    """Describes the memory of libllama's buffers; other settings of the engine add to it."""
    rows = [row for row in found.memory if row["context"] >= context] or list(found.memory[-1:])
    if not rows:
        return f"{found.bytes / 1e9:.1f} GB of weights, and the KV cache"
    row = rows[0]
    return f"{row['bytes'] / 1e9:.1f} GB with a context of {row['context']:,} tokens"


def _pays(entry: RegistryEntry | None) -> str:
    """Describes the expected gain from drafting, by the kind of model."""
    shape = entry.shape if entry else None
    if shape is None:
        gain = "unknown: measure it with and without drafting"
    elif shape.read_more:
        gain = (
            "small (published: 0.9 to 1.5 times): every drafted token makes verification read "
            "further experts; keep drafts short"
        )
    elif shape.read < _CHEAP:
        gain = (
            "moderate (published: 0.75 to 2 times): the target is cheap, and drafts that are too "
            "long cost more than they gain"
        )
    else:
        gain = "large (published: 1.5 to 3 times): reading the weights of a dense target is slow"
    return f"{gain}; it is largest for one request at a time and shrinks under load"
