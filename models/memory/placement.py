"""Choosing how a pair is put on a machine: context, KV cache, batches, layers on GPUs.

Arithmetic alone: the machine is described by a `Room`. What is not asked for is given up in the
order in which it is missed least: large prompt batches, a KV cache of 16 bits, a long context,
layers on the GPU. The drafter is never given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from localmtp.engine.kv_type import KVType
from localmtp.errors import LocalmtpError
from localmtp.limits import BATCH_ROWS, DEFAULT_CONTEXT
from localmtp.models.memory.estimate import Load, Need, Weights, need
from localmtp.models.memory.shape import Shape

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions

LEAST_CONTEXT = 4096
"""A chat of some length; with less room than this a model is not worth having."""

_GENEROUS_CONTEXT = 32768
"""Taken without being asked for where a tenth of the memory holds it."""

_GENEROUS_SHARE = 10
_SMALLEST_CONTEXT = 2048
_SMALL_BATCH = 128
"""A quarter of the working memory; prompts are read somewhat slower."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that a pair may take, in bytes, headroom already left."""

    main: int
    gpu: int = 0
    """Of all GPUs together."""
    gpus: int = 0
    unified: bool = False
    """The GPU's memory is main memory."""
    remote: int = 0
    """Of `gpu`, what lies on other machines."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.main + (self.remote if self.unified else self.gpu)

    def holds(self, needed: Need) -> bool:
        """Whether a pair fits, each part in its place."""
        on_gpus = needed.gpu + max(0, self.gpus - 1) * needed.buffers if needed.gpu else 0
        # What is offloaded is shared out by free memory.
        away = needed.gpu * self.remote // self.gpu if self.gpu else 0
        in_main = needed.total - away if self.unified else needed.main
        return on_gpus <= self.gpu and in_main <= self.main


@dataclass(frozen=True, slots=True)
class Placement:
    """How a pair is put on a machine, and why."""

    load: Load
    words: str
    """One line for people; empty where there was nothing to choose."""


def place(
    name: str, shape: Shape, weights: Weights, limit: int, room: Room, asked: LoadOptions
) -> Placement:
    """Choose how to load a pair.

    Args:
        name: of the model.
        shape: of the target.
        weights: of both files; with their layers, if there are GPUs.
        limit: the model's own context.
        room: what there is.
        asked: what the user asked for stays as it is.

    Raises:
        LocalmtpError: it does not fit; says what would.
    """
    preferred = _Choice(shape, weights, limit, room, asked)
    first = next(preferred.loads())
    load = preferred.fitting()
    if load is None:
        raise LocalmtpError(
            f"{name} needs {_gb(need(shape, weights, first).total)} with a context of "
            f"{first.context}; {_gb(room.total)} can be used",
            hint=_what_fits(preferred),
        )
    return Placement(load, _words(preferred, first, load))


def fits(shape: Shape, weights: Weights, room: Room, context: int = LEAST_CONTEXT) -> bool:
    """Whether a pair fits with some context, on GPUs, in main memory, or divided between them."""
    weights = weights.spread_over(shape.layers)
    return any(
        room.holds(need(shape, weights, Load(context, gpu_layers=layers)))
        for layers in (range(weights.all_layers, -1, -1) if room.gpu else (0,))
    )


def largest_context(shape: Shape, weights: Weights, limit: int, room: Room) -> int:
    """The largest context that fits: a power of two or `limit`; 0 for none.

    Args:
        shape: of the target.
        weights: of both files.
        limit: the model's own context.
        room: what there is.
    """
    least = _SMALLEST_CONTEXT.bit_length() - 1
    powers = (1 << n for n in range(limit.bit_length(), least - 1, -1))
    sizes = [limit, *(size for size in powers if size < limit)]
    return next((size for size in sizes if fits(shape, weights, room, size)), 0)


@dataclass(frozen=True, slots=True)
class _Choice:
    shape: Shape
    weights: Weights
    limit: int
    room: Room
    asked: LoadOptions

    def fitting(self) -> Load | None:
        """The first load that fits."""
        generous = self._generous()
        return next((load for load in (*generous, *self.loads()) if self._holds(load)), None)

    def loads(self) -> Iterator[Load]:
        """All that may be tried, best first."""
        if self.asked.gpu_layers is not None:
            yield from self._ladder(self.asked.gpu_layers, _SMALLEST_CONTEXT)
            return
        if self.room.gpu:
            yield from self._ladder(self.weights.all_layers, LEAST_CONTEXT)
            for layers in range(self.weights.all_layers - 1, 0, -1):
                yield next(self._ladder(layers, LEAST_CONTEXT))
        yield from self._ladder(0, _SMALLEST_CONTEXT)

    def _ladder(self, layers: int, least: int) -> Iterator[Load]:
        """Less and less memory for the same layers on GPUs."""
        asked, context = self.asked, min(DEFAULT_CONTEXT, self.limit)
        contexts = [asked.context] if asked.context else [context]
        while not asked.context and contexts[-1] // 2 >= least:
            contexts.append(contexts[-1] // 2)
        for context in contexts:
            for kv_type in (asked.kv_type,) if asked.kv_type else tuple(KVType):
                for batch in (asked.batch,) if asked.batch else (BATCH_ROWS, _SMALL_BATCH):
                    yield Load(context, kv_type, batch, layers, asked.parallel)

    def _generous(self) -> Iterator[Load]:
        """Longer contexts than the default, where they cost little."""
        if self.asked.context or self.limit <= DEFAULT_CONTEXT:
            return
        best = next(self.loads())
        for context in (_GENEROUS_CONTEXT, _GENEROUS_CONTEXT // 2):
            load = replace(best, context=min(context, self.limit))
            room = self.room.gpu if best.gpu_layers else self.room.main
            if need(self.shape, self.weights, load).kv_cache * _GENEROUS_SHARE <= room:
                yield load

    def _holds(self, load: Load) -> bool:
        return self.room.holds(need(self.shape, self.weights, load))


def _what_fits(failed: _Choice) -> str:
    asked = failed.asked
    free = replace(asked, context=None, kv_type=None, batch=None, gpu_layers=None)
    load = replace(failed, asked=free).fitting()
    if load and asked == replace(free, context=asked.context):
        largest = largest_context(failed.shape, failed.weights, failed.limit, failed.room)
        return f"this fits: --ctx {max(load.context, largest)}"
    if load:
        return f"this fits: {_flags(load, asked)}"
    alone = replace(failed, asked=free, weights=replace(failed.weights, drafter=0)).fitting()
    if alone and failed.weights.drafter:
        return f"it fits without its drafter: --drafter none --ctx {alone.context}"
    return "`localmtp doctor` shows which models fit"


def _flags(load: Load, asked: LoadOptions) -> str:
    """What to write in place of what was asked for."""
    flags = [f"--ctx {load.context}"]
    if asked.kv_type:
        flags.append(f"--kv-type {load.kv_type}")
    if asked.batch:
        flags.append(f"--batch {load.batch}")
    if asked.gpu_layers is not None:
        flags.append(f"--gpu-layers {load.gpu_layers}")
    return " ".join(flags)


def _words(choice: _Choice, first: Load, load: Load) -> str:
    weights, room = choice.weights, choice.room
    needed = need(choice.shape, weights, load)
    several = f" for each of {load.parallel} answers" if load.parallel > 1 else ""
    parts = [
        f"context {load.context}{several}",
        f"{load.kv_type} KV cache",
        f"batches of {load.batch}",
    ]
    if room.gpu:
        layers = min(load.gpu_layers, weights.all_layers)
        parts.append(f"{layers} of {weights.all_layers} layers on the GPU")
    words = f"{', '.join(parts)}: {_gb(needed.total)} of {_gb(room.total)}"
    if load == replace(first, context=load.context) and (load.context >= first.context):
        return words
    better = need(choice.shape, weights, first).total
    return f"{words}; context {first.context} without savings would take {_gb(better)}"


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
