"""Choosing context, KV cache type, batch and offloaded layers for the memory that there is.

Pure arithmetic: the machine is described by a `MemoryBudget`. Where memory is short, savings are
made in the order in which they hurt least: smaller prefill batches, an 8-bit KV cache, a shorter
context, fewer layers on the GPU. The drafter is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from localmtp.engine.kv_type import KVType
from localmtp.engine.load_options import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.limits import BATCH_ROWS, DEFAULT_CONTEXT
from localmtp.models.memory.estimate import MemoryEstimate, Weights, estimate_memory
from localmtp.models.memory.shape import ModelShape

MIN_CHAT_CONTEXT = 4096
"""Context of a chat of some length, in tokens; a model that only fits with less does not fit."""

_LONG_CONTEXT = 32768
"""Chosen instead of the default where its KV cache takes at most a tenth of the memory."""

_LONG_CONTEXT_SHARE = 10
_MIN_CONTEXT = 2048
_SMALL_BATCH = 128
"""Takes a quarter of the working memory; prefill is somewhat slower."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory that a pair may take, in bytes, without the headroom."""

    main: int
    gpu: int = 0
    """Memory of all GPUs together."""
    gpus: int = 0
    unified: bool = False
    """GPU memory is main memory."""
    remote: int = 0
    """Part of `gpu` that is on other machines."""

    @property
    def total(self) -> int:
        """Main and GPU memory."""
        return self.main + (self.remote if self.unified else self.gpu)

    def holds(self, needed: MemoryEstimate) -> bool:
        """Reports whether both the GPU part and the main part fit."""
        on_gpus = needed.gpu + max(0, self.gpus - 1) * needed.buffers if needed.gpu else 0
        # libllama divides offloaded layers among devices by their free memory.
        away = needed.gpu * self.remote // self.gpu if self.gpu else 0
        in_main = needed.total - away if self.unified else needed.main
        return on_gpus <= self.gpu and in_main <= self.main


@dataclass(frozen=True, slots=True)
class Placement:
    """Options for loading a pair, with the reason."""

    options: LoadOptions
    """The requested options with everything chosen."""
    summary: str
    """One human-readable line."""

    @property
    def context(self) -> int:
        """Context of a sequence in tokens."""
        return self.options.context or 0


def place(
    name: str,
    shape: ModelShape,
    weights: Weights,
    limit: int,
    budget: MemoryBudget,
    requested: LoadOptions,
) -> Placement:
    """Chooses how to load a pair.

    Args:
        name: of the model, for messages.
        shape: of the target.
        weights: of both files; with their layers, if there are GPUs.
        limit: the model's own context in tokens.
        budget: memory of the machine.
        requested: options given by the user; they are not changed.

    Raises:
        LocalmtpError: it does not fit; the hint names what does.
    """
    search = _Search(shape, weights, limit, budget, requested)
    preferred = next(search.candidates())
    chosen = search.first_that_fits()
    if chosen is None:
        needed = estimate_memory(shape, weights, preferred).total
        raise LocalmtpError(
            f"{name} needs {_gb(needed)} with a context of {preferred.context}; "
            f"{_gb(budget.total)} can be used",
            hint=_what_fits(search),
        )
    return Placement(chosen, _summary(search, preferred, chosen))


def fits(
    shape: ModelShape, weights: Weights, budget: MemoryBudget, context: int = MIN_CHAT_CONTEXT
) -> bool:
    """Reports whether a pair fits with a context, on GPUs, in main memory, or divided."""
    weights = weights.spread_over(shape.layers)
    return any(
        budget.holds(
            estimate_memory(shape, weights, LoadOptions(context=context, gpu_layers=layers))
        )
        for layers in (range(weights.all_layers, -1, -1) if budget.gpu else (0,))
    )


def largest_context(shape: ModelShape, weights: Weights, limit: int, budget: MemoryBudget) -> int:
    """Returns the largest context that fits, in tokens: a power of two or `limit`; 0 for none.

    Args:
        shape: of the target.
        weights: of both files.
        limit: the model's own context in tokens.
        budget: memory of the machine.
    """
    least = _MIN_CONTEXT.bit_length() - 1
    powers = (1 << n for n in range(limit.bit_length(), least - 1, -1))
    sizes = [limit, *(size for size in powers if size < limit)]
    return next((size for size in sizes if fits(shape, weights, budget, size)), 0)


@dataclass(frozen=True, slots=True)
class _Search:
    shape: ModelShape
    weights: Weights
    limit: int
    budget: MemoryBudget
    requested: LoadOptions

    def first_that_fits(self) -> LoadOptions | None:
        """Returns the best options that fit."""
        tried = (*self._longer_contexts(), *self.candidates())
        return next((options for options in tried if self._holds(options)), None)

    def candidates(self) -> Iterator[LoadOptions]:
        """Yields all options that may be tried, best first."""
        if self.requested.gpu_layers is not None:
            yield from self._ladder(self.requested.gpu_layers, _MIN_CONTEXT)
            return
        if self.budget.gpu:
            yield from self._ladder(self.weights.all_layers, MIN_CHAT_CONTEXT)
            for layers in range(self.weights.all_layers - 1, 0, -1):
                yield next(self._ladder(layers, MIN_CHAT_CONTEXT))
        yield from self._ladder(0, _MIN_CONTEXT)

    def _ladder(self, layers: int, least: int) -> Iterator[LoadOptions]:
        """Yields options that need less and less memory, with the same layers on GPUs."""
        requested, context = self.requested, min(DEFAULT_CONTEXT, self.limit)
        contexts = [requested.context] if requested.context else [context]
        while not requested.context and contexts[-1] // 2 >= least:
            contexts.append(contexts[-1] // 2)
        for context in contexts:
            for kv_type in (requested.kv_type,) if requested.kv_type else tuple(KVType):
                for batch in (requested.batch,) if requested.batch else (BATCH_ROWS, _SMALL_BATCH):
                    yield replace(
                        requested, context=context, kv_type=kv_type, batch=batch, gpu_layers=layers
                    )

    def _longer_contexts(self) -> Iterator[LoadOptions]:
        """Yields longer contexts than the default that take a small share of the memory."""
        if self.requested.context or self.limit <= DEFAULT_CONTEXT:
            return
        best = next(self.candidates())
        for context in (_LONG_CONTEXT, _LONG_CONTEXT // 2):
            options = replace(best, context=min(context, self.limit))
            memory = self.budget.gpu if best.gpu_layers else self.budget.main
            if self._need(options).kv_cache * _LONG_CONTEXT_SHARE <= memory:
                yield options

    def _need(self, options: LoadOptions) -> MemoryEstimate:
        return estimate_memory(self.shape, self.weights, options)

    def _holds(self, options: LoadOptions) -> bool:
        return self.budget.holds(self._need(options))


def _what_fits(failed: _Search) -> str:
    requested = failed.requested
    free = replace(requested, context=None, kv_type=None, batch=None, gpu_layers=None)
    instead = replace(failed, requested=free).first_that_fits()
    if instead and requested == replace(free, context=requested.context):
        largest = largest_context(failed.shape, failed.weights, failed.limit, failed.budget)
        return f"this fits: --ctx {max(instead.context or 0, largest)}"
    if instead:
        return f"this fits: {_flags(instead, requested)}"
    if failed.weights.projector:
        silent = replace(failed, requested=free, weights=replace(failed.weights, projector=0))
        if without := silent.first_that_fits():
            return f"it fits without images and sound: --no-media --ctx {without.context}"
    alone = replace(failed, requested=free, weights=replace(failed.weights, drafter=0))
    without = alone.first_that_fits()
    if without and failed.weights.drafter:
        return f"it fits without its drafter: --drafter none --ctx {without.context}"
    return "`localmtp doctor` shows which models fit"


def _flags(fitting: LoadOptions, requested: LoadOptions) -> str:
    """The flags to write instead of the requested ones."""
    flags = [f"--ctx {fitting.context}"]
    if requested.kv_type:
        flags.append(f"--kv-type {fitting.kv_type}")
    if requested.batch:
        flags.append(f"--batch {fitting.batch}")
    if requested.gpu_layers is not None:
        flags.append(f"--gpu-layers {fitting.gpu_layers}")
    return " ".join(flags)


def _summary(search: _Search, preferred: LoadOptions, chosen: LoadOptions) -> str:
    weights, budget = search.weights, search.budget
    needed = estimate_memory(search.shape, weights, chosen)
    each = f" for each of {chosen.parallel} answers" if chosen.parallel > 1 else ""
    parts = [
        f"context {chosen.context}{each}",
        f"{chosen.kv_type} KV cache",
        f"batches of {chosen.batch}",
    ]
    if budget.gpu:
        layers = min(chosen.gpu_layers or 0, weights.all_layers)
        parts.append(f"{layers} of {weights.all_layers} layers on the GPU")
    line = f"{', '.join(parts)}: {_gb(needed.total)} of {_gb(budget.total)}"
    longer = (chosen.context or 0) >= (preferred.context or 0)
    if longer and chosen == replace(preferred, context=chosen.context):
        return line
    better = estimate_memory(search.shape, weights, preferred).total
    return f"{line}; context {preferred.context} without savings would take {_gb(better)}"


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
