"""Choosing context, KV cache type, batch and offloaded layers for the memory that there is.

Pure arithmetic: the machine is described by a `MemoryBudget`. Where memory is short, savings are
made in the order in which they hurt least: experts in main memory, smaller prefill batches, an
8-bit KV cache, a shorter context, fewer layers on the GPU. The drafter is never dropped, and goes
where the KV cache is that it attends to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from localmtp.engine.device_options import device_of, drafter_offloaded
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
    each: tuple[int, ...] = ()
    """Memory of each GPU, in libllama's order; empty if unknown."""
    shares: tuple[float, ...] = ()
    """Share of the layers that each GPU receives, in any unit."""

    @property
    def total(self) -> int:
        """Main and GPU memory."""
        return self.main + (self.remote if self.unified else self.gpu)

    def holds(self, needed: MemoryEstimate) -> bool:
        """Reports whether both the GPU part and the main part fit."""
        # libllama divides offloaded layers among devices by their free memory.
        away = needed.gpu * self.remote // self.gpu if self.gpu else 0
        in_main = needed.total - away if self.unified else needed.main
        return in_main <= self.main and self.gpu_holds(needed)

    def gpu_holds(self, needed: MemoryEstimate) -> bool:
        """Reports whether the GPU part fits, on every GPU where they are known one by one."""
        if not needed.gpu:
            return True
        if len(self.each) < 2:
            return needed.gpu + max(0, self.gpus - 1) * needed.buffers <= self.gpu
        by_gpu = divided(needed, self.shares)
        return all(part <= free for part, free in zip(by_gpu, self.each, strict=True))


def divided(needed: MemoryEstimate, shares: Sequence[float]) -> list[int]:
    """Divides the GPU part among GPUs as libllama does (`llama_model::load_tensors`).

    Args:
        needed: with its parts.
        shares: of the layers, for each GPU.

    Returns:
        Bytes by GPU. The drafter is placed with the layer whose KV cache it reads, and what belongs
        to no layer is counted on every GPU.
    """
    by_gpu = [0] * len(shares)
    for at, nbytes in enumerate(needed.parts):
        by_gpu[device_of(at, len(needed.parts), shares)] += nbytes
    drafter = needed.drafter if needed.drafter_part >= 0 else 0
    if drafter:
        by_gpu[device_of(needed.drafter_part, len(needed.parts), shares)] += drafter
    rest = needed.gpu - sum(needed.parts) - drafter
    return [nbytes + rest if nbytes else 0 for nbytes in by_gpu]


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
        raise LocalmtpError(_too_large(name, search, preferred), hint=_what_fits(search))
    return Placement(chosen, _summary(search, preferred, chosen))


def fits(
    shape: ModelShape, weights: Weights, budget: MemoryBudget, context: int = MIN_CHAT_CONTEXT
) -> bool:
    """Reports whether a pair fits with a context, on GPUs, in main memory, or divided."""
    weights = weights.spread_over(shape.layers, shape.experts)
    search = _Search(shape, weights, context, budget, LoadOptions(context=context))
    return any(search.fits(options) for options in search.divisions())


def division(shape: ModelShape, weights: Weights, limit: int, budget: MemoryBudget) -> str:
    """Says how a pair would be divided between GPUs and main memory, with the options chosen.

    Args:
        shape: of the target.
        weights: of all files.
        limit: the model's own context in tokens.
        budget: memory of the machine.

    Returns:
        Empty without GPUs, or if the pair does not fit.
    """
    weights = weights.spread_over(shape.layers, shape.experts)
    search = _Search(shape, weights, limit, budget, LoadOptions())
    chosen = search.first_that_fits()
    return "" if chosen is None else ", ".join(_division(search, chosen))


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
        return next((options for options in tried if self.fits(options)), None)

    def candidates(self) -> Iterator[LoadOptions]:
        """Yields all options that may be tried, best first."""
        given, all_layers = self.requested.gpu_layers, self.weights.all_layers
        layers = all_layers if given is None else given
        least = _MIN_CONTEXT if given is not None else MIN_CHAT_CONTEXT
        if layers and (given is not None or self.budget.gpu):
            *some, most = self._expert_choices()
            for experts in some:
                yield next(self._ladder(layers, least, experts))
            yield from self._ladder(layers, least, most)
            if given is None:
                for fewer in self._fewer_layers():
                    yield next(self._ladder(fewer, least, most))
        if given is None or not layers:
            yield from self._ladder(0, _MIN_CONTEXT)

    def divisions(self) -> Iterator[LoadOptions]:
        """Yields the divisions between GPUs and main memory, with the requested context."""
        if self.budget.gpu:
            *some, most = self._expert_choices()
            layers = self.weights.all_layers
            yield from (self._divided(layers, experts) for experts in (*some, most))
            yield from (self._divided(fewer, most) for fewer in self._fewer_layers())
        yield self._divided(0)

    def _fewer_layers(self) -> Iterator[int]:
        """Yields numbers of layers below all, as long as the drafter is on the GPU with them."""
        own = 1 + max((0, *self.shape.full_layers, *self.shape.sliding_layers))
        for layers in range(self.weights.all_layers - 1, 0, -1):
            if self.weights.drafter and not drafter_offloaded(layers, self.shape.layers, own):
                return
            yield layers

    def _expert_choices(self) -> Sequence[int | None]:
        """Numbers of layers whose experts stay in main memory, best first."""
        given = self.requested.devices.cpu_moe
        if given is not None or not self.weights.experts:
            return (given,)
        return (None, *range(1, len(self.weights.experts) + 1))

    def _divided(self, layers: int, experts: int | None = None) -> LoadOptions:
        devices = self.requested.devices
        if experts != devices.cpu_moe and layers:
            devices = replace(devices, cpu_moe=experts)
        return replace(self.requested, gpu_layers=layers, devices=devices)

    def _ladder(self, layers: int, least: int, experts: int | None = None) -> Iterator[LoadOptions]:
        """Yields options that need less and less memory, with the same division."""
        divided = self._divided(layers, experts)
        requested, context = self.requested, min(DEFAULT_CONTEXT, self.limit)
        contexts = [requested.context] if requested.context else [context]
        while not requested.context and contexts[-1] // 2 >= least:
            contexts.append(contexts[-1] // 2)
        for context in contexts:
            for kv_type in (requested.kv_type,) if requested.kv_type else tuple(KVType):
                for batch in (requested.batch,) if requested.batch else (BATCH_ROWS, _SMALL_BATCH):
                    yield replace(divided, context=context, kv_type=kv_type, batch=batch)

    def _longer_contexts(self) -> Iterator[LoadOptions]:
        """Yields longer contexts than the default that take a small share of the memory."""
        if self.requested.context or self.limit <= DEFAULT_CONTEXT:
            return
        best = next(self.candidates())
        for context in (_LONG_CONTEXT, _LONG_CONTEXT // 2):
            options = replace(best, context=min(context, self.limit))
            memory = self.budget.gpu if best.gpu_layers else self.budget.main
            if self.need(options).kv_cache * _LONG_CONTEXT_SHARE <= memory:
                yield options

    def need(self, options: LoadOptions) -> MemoryEstimate:
        """Estimates the memory with these options."""
        return estimate_memory(self.shape, self.weights, options)

    def fits(self, options: LoadOptions) -> bool:
        """Reports whether a pair with these options fits."""
        return self.budget.holds(self.need(options))


def _too_large(name: str, search: _Search, preferred: LoadOptions) -> str:
    """Says what is short: with given layers that may be the GPU's memory, else all of it."""
    needed, budget = search.need(preferred), search.budget
    if search.requested.gpu_layers and not budget.gpu_holds(needed):
        layers = min(preferred.gpu_layers or 0, search.weights.all_layers)
        return (
            f"{name} needs {_gb(needed.gpu)} on the GPU for {layers} of "
            f"{search.weights.all_layers} layers and a context of {preferred.context}; "
            f"{_gb(budget.gpu)} can be used there"
        )
    return (
        f"{name} needs {_gb(needed.total)} with a context of {preferred.context}; "
        f"{_gb(budget.total)} can be used"
    )


def _what_fits(failed: _Search) -> str:
    requested = failed.requested
    devices = replace(requested.devices, cpu_moe=None)
    free = replace(
        requested, context=None, kv_type=None, batch=None, gpu_layers=None, devices=devices
    )
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
    if requested.devices.cpu_moe is not None:
        flags.append(f"--n-cpu-moe {fitting.devices.cpu_moe or 0}")
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
    parts += _division(search, chosen)
    line = f"{', '.join(parts)}: {_gb(needed.total)} of {_gb(budget.total)}"
    whole = search.need(replace(preferred, context=chosen.context))
    if needed.gpu and needed.gpu < whole.gpu and not budget.unified:
        line += f", {_gb(needed.gpu)} of {_gb(budget.gpu)} on the GPU"
    return line + _savings(search, preferred, chosen)


def _division(search: _Search, chosen: LoadOptions) -> Iterator[str]:
    """Says what is on the GPU; nothing without one."""
    weights = search.weights
    if search.budget.gpu:
        layers = min(chosen.gpu_layers or 0, weights.all_layers)
        yield f"{layers} of {weights.all_layers} layers on the GPU"
        if chosen.devices.cpu_moe and layers:
            kept = min(chosen.devices.cpu_moe, len(weights.experts))
            yield f"experts of {kept} layers in main memory"


def _savings(search: _Search, preferred: LoadOptions, chosen: LoadOptions) -> str:
    """Names what was given up, and what it would take."""
    if (chosen.context or 0) > (preferred.context or 0):
        preferred = replace(preferred, context=chosen.context)
    line, better = "", search.need(preferred)
    divided = replace(preferred, gpu_layers=chosen.gpu_layers, devices=chosen.devices)
    if search.budget.gpu and divided != preferred:
        line = f"; all on the GPU would take {_gb(better.gpu)} there"
    if chosen != divided:
        line += f"; context {preferred.context} without savings would take {_gb(better.total)}"
    return line


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
