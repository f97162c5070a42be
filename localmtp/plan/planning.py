"""Which pair, how long its drafts, and what to expect: a plan for one engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from localmtp.bench.result_store import StoredResult, read_result, stored_results
from localmtp.errors import LocalmtpError
from localmtp.models.details import ModelDetails, model_details
from localmtp.models.naming.registry import RegistryEntry, entries, find
from localmtp.models.store.cache import cached
from localmtp.paths import bench_results
from localmtp.plan import llama_cpp, ollama, vllm
from localmtp.plan.recipe import Pair, Recipe

_RECIPES: Mapping[str, Callable[[Pair], Recipe]] = {
    "vllm": vllm.recipe,
    "llama.cpp": llama_cpp.recipe,
    "ollama": ollama.recipe,
}
ENGINES = tuple(_RECIPES)

_USUAL_LENGTH = 3
"""Where nothing is known: llama.cpp's own default."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run a model on another engine."""

    model: str
    engine: str
    n_draft: int
    """Tokens to draft per pass; 0: without drafting."""
    n_draft_from: str
    """Why so many."""
    context: int
    recipe: Recipe
    memory: str
    pays: str
    """When drafting is worth it."""
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def make_plan(
    model: str, engine: str, context: int, *, bench: Path | None = None, offline: bool = False
) -> Plan:
    """Plan for a model on one of `ENGINES`; nothing is downloaded or loaded.

    Args:
        model: as for `resolve`.
        engine: which.
        context: tokens to make room for; at most the model's own are taken.
        bench: a report of `bench --json`; None for the latest that was kept, if any.
        offline: do not ask the hub about a model that is not here.

    Raises:
        LocalmtpError: no such model, it has no drafter, or the engine cannot run it.
    """
    entry = _entry(model)
    found = model_details(_with_quant(model, entry), offline=offline)
    if not found.drafter and engine != "vllm":
        why = found.why_no_drafter or "the registry names none"
        raise LocalmtpError(f"{found.model} has no drafter: {why}")
    context = min(context, found.context_length or context)
    original = entry.original if entry else ""
    n_draft, reason = _length(engine, found, original, bench)
    pair = Pair(
        name=found.model,
        target=found.target,
        drafter=found.drafter,
        installed=found.installed,
        original=original,
        context=context,
        n_draft=n_draft,
    )
    return Plan(
        model=found.model,
        engine=engine,
        n_draft=n_draft,
        n_draft_from=reason,
        context=context,
        recipe=_RECIPES[engine](pair),
        memory=vllm.memory(original) if engine == "vllm" else _memory(found, context),
        pays=_pays(entry),
        warnings=found.warnings,
    )


def _entry(model: str) -> RegistryEntry | None:
    """The registry's entry of that name, or for that repository's files."""
    name = model.partition(":")[0]
    repositories = (
        (entry, quant.target.repo) for entry in entries().values() for quant in entry.quants
    )
    return find(name) or next((entry for entry, repo in repositories if repo == name), None)


def _with_quant(model: str, entry: RegistryEntry | None) -> str:
    """A name of the registry with a quantization: what is here, else the first.

    A plan may be for a larger machine: it does not matter what fits here.
    """
    if entry is None or ":" in model:
        return model
    quants = [quant for quant in entry.quants if quant.target.repo == model] or entry.quants
    here = (quant for quant in quants if cached(quant.target))
    return f"{entry.name}:{next(here, quants[0]).label}"


def _length(engine: str, found: ModelDetails, original: str, bench: Path | None) -> tuple[int, str]:
    """How many tokens to draft, and who says so."""
    if bench or engine != "vllm":
        reports = [read_result(bench)] if bench else stored_results(found.model, bench_results())
        if reports:
            return _fastest(reports[0])
    if engine == "vllm" and (length := vllm.advised(original)):
        return length, "advised by vLLM's recipe, from measurements on A100 and H100"
    if found.first_draft_length:
        return found.first_draft_length, "published measurements of llama.cpp; `bench` knows better"
    return _USUAL_LENGTH, "llama.cpp's default; `bench` knows better"


def _fastest(result: StoredResult) -> tuple[int, str]:
    """The fixed length that was fastest over all workloads, 0 among them."""
    rates: dict[int, list[float]] = {}
    coolest = min(temperature for _, temperature, _ in result.rates())
    for (_, temperature, label), rate in result.rates().items():
        if label != "auto" and temperature == coolest:
            rates.setdefault(int(label), []).append(rate)
    if not rates:
        raise LocalmtpError(f"{result.path} holds no fixed draft length")
    best = max(rates, key=lambda length: geometric_mean(rates[length]))
    told = f"`bench` measured it as the fastest on {result.report['machine']['cpu']}"
    return best, f"{told} ({result.name})"


def _memory(found: ModelDetails, context: int) -> str:
    """What libllama's buffers take; other settings of the engine add to it."""
    rows = [row for row in found.memory if row["context"] >= context] or list(found.memory[-1:])
    if not rows:
        return f"{found.bytes / 1e9:.1f} GB of weights, and the KV cache"
    row = rows[0]
    return f"{row['bytes'] / 1e9:.1f} GB with a context of {row['context']:,} tokens"


def _pays(entry: RegistryEntry | None) -> str:
    """In which cases drafting is worth it, by the kind of model."""
    shape = entry.shape if entry else None
    if shape is None:
        which = "compare with and without"
    elif shape.read_more:
        which = (
            "little (published: 0.9 to 1.5 times): every drafted token makes the verification "
            "read other experts; keep drafts short"
        )
    elif shape.read < 1:
        which = (
            "some (published: 0.75 to 2 times): the target is cheap already, and drafts that are "
            "too long lose"
        )
    else:
        which = "most (published: 1.5 to 3 times): reading a dense target's weights is slow"
    return f"{which}; the gain is largest for one request at a time and shrinks under load"
