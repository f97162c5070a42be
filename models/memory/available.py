"""The memory that this machine has for a pair, and how to load the pair into it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.engine.compatibility import DRAFTER, FIRST_TENSOR
from localmtp.engine.device_options import SplitMode
from localmtp.engine.load_options import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.hardware.memory import main_memory
from localmtp.limits import DEFAULT_CONTEXT
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.memory.estimate import Weights, estimate_memory, projector_memory, weights_of
from localmtp.models.memory.placement import (
    MIN_CHAT_CONTEXT,
    MemoryBudget,
    Placement,
    fits,
    place,
)
from localmtp.models.memory.shape import ModelShape, shape_of
from localmtp.models.naming.quant import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localmtp.engine.llama.ggml import Device
    from localmtp.models.files import ModelFiles

_SMALL = 1 << 28
"""Files below this size fit on any machine; memory is not checked, so that they start fast."""

_GPU_HEADROOM = 1 << 30
"""Left free on every GPU for the driver and other programs: llama.cpp's own default."""


def choose_placement(files: ModelFiles, requested: LoadOptions) -> Placement | None:
    """Chooses how to load a pair into the memory that is free now.

    Args:
        files: the pair.
        requested: options given by the user; they are not changed.

    Returns:
        None for a small pair, which fits with any options.

    Raises:
        LocalmtpError: it does not fit; the hint names what does.
    """
    weights = weights_on_disk(files)
    if weights.target < _SMALL:
        return None
    requested = _without_full_gpus(requested)
    budget = available_memory(requested)
    if budget.gpu:
        header = _whole_header(parts_on_disk(files.target))
    else:
        header = read_header(files.target, settings_only=True)
    return place(
        files.name,
        _shape(files, header),
        replace(
            weights_of(header, weights.target, weights.drafter, requested.devices.overrides),
            projector=weights.projector,
            drafter_width=weights.drafter_width,
            drafter_heads=weights.drafter_heads,
            drafter_scratch=weights.drafter_scratch,
        ),
        header.number("context_length") or DEFAULT_CONTEXT,
        budget,
        requested,
    )


def choose_parallel(files: ModelFiles, requested: LoadOptions, most: int) -> int:
    """Returns the number of sequences that fit without shortening the default context.

    Args:
        files: the pair.
        requested: see `choose_placement`.
        most: a power of two; halved until it fits.

    Raises:
        LocalmtpError: see `choose_placement`.
    """
    alone = choose_placement(files, replace(requested, parallel=1))
    while most > 1 and alone is not None:
        with suppress(LocalmtpError):
            together = choose_placement(files, replace(requested, parallel=most))
            if together is None or together.context >= min(alone.context, DEFAULT_CONTEXT):
                break
        most //= 2
    return most


def weights_on_disk(files: ModelFiles) -> Weights:
    """Returns the file sizes of a pair and its projector, all parts of the target together."""
    drafter = files.drafter_file.stat().st_size if files.drafter_file else 0
    projector = files.projector.stat().st_size if files.projector else 0
    target = sum(part.stat().st_size for part in parts_on_disk(files.target))
    return replace(_with_draft_model(files, Weights(target, drafter)), projector=projector)


def _with_draft_model(files: ModelFiles, weights: Weights) -> Weights:
    """Adds the KV cache and the working memory of a draft model, which holds the whole context."""
    if files.drafter_file is None:
        return weights
    header = read_header(files.drafter_file, settings_only=True)
    target = read_header(files.target, settings_only=True)
    heads = header.number("nextn_predict_layers")
    if header.architecture == DRAFTER:
        return weights
    if heads and header.architecture == target.architecture:
        tensors = read_header(files.drafter_file).tensors
        if all(tensor.name != FIRST_TENSOR for tensor in tensors):
            return replace(weights, drafter_heads=heads)
    shape = shape_of(header)
    width = shape.full_width * len(shape.full_layers)
    width += shape.sliding_width * len(shape.sliding_layers)
    return replace(weights, drafter_width=width, drafter_scratch=shape.scratch)


def memory_by_part(files: ModelFiles, options: LoadOptions) -> dict[str, int]:
    """Estimates the bytes of target, drafter, projector, KV cache and buffers of a loaded pair.

    Args:
        files: the pair.
        options: how it was loaded.
    """
    weights, header = weights_on_disk(files), read_header(files.target, settings_only=True)
    shape = _shape(files, header)
    needed = estimate_memory(shape, weights, replace(options, gpu_layers=None))
    projector = {"projector": needed.projector} if needed.projector else {}
    return {
        "target": needed.weights,
        "drafter": needed.drafter,
        **projector,
        "cache": needed.kv_cache,
        "buffers": needed.buffers,
    }


def _shape(files: ModelFiles, header: Header) -> ModelShape:
    """Returns the shape of a target, without MTP heads if something else drafts, or nothing."""
    shape = shape_of(header)
    return shape if files.drafter == files.target else replace(shape, heads=0)


def available_memory(requested: LoadOptions | None = None) -> MemoryBudget:
    """Returns the memory that a model may take on this machine now.

    Args:
        requested: its `devices` are counted; None for all.
    """
    from localmtp.engine.llama.offload import used_devices

    chosen = (requested or LoadOptions()).devices
    return budget_of(main_memory().usable, used_devices(None, chosen), chosen.tensor_split)


def projector_fits_gpu(projector: Path, tokens: int, devices: Sequence[Device]) -> bool:
    """Reports whether a GPU has room left for a projector.

    Args:
        projector: its file.
        tokens: most tokens of an image.
        devices: that the pair may use. libmtmd takes the first one of this machine.
    """
    first = next((device for device in devices if not device.remote), None)
    needed = projector_memory(projector.stat().st_size, tokens)
    return first is not None and first.free - _GPU_HEADROOM // 2 >= needed


def budget_of(usable: int, devices: Sequence[Device], shares: Sequence[float] = ()) -> MemoryBudget:
    """Returns the memory that a model may take.

    Args:
        usable: bytes of main memory.
        devices: GPUs, and devices of RPC servers.
        shares: of the layers for each device; empty: by free memory.
    """
    free = [max(0, device.free - _GPU_HEADROOM) for device in devices]
    unified = any(device.unified for device in devices)
    remote = sum(size for size, device in zip(free, devices, strict=True) if device.remote)
    budget = MemoryBudget(usable, sum(free), sum(map(bool, free)), unified, remote)
    if shares:
        given = (*shares, *[0.0] * len(free))[: len(free)]
        return replace(budget, each=tuple(free), shares=given) if len(free) > 1 else budget
    used = [(size, float(device.free)) for size, device in zip(free, devices, strict=True) if size]
    if len(used) < 2:
        return budget
    each, by_memory = zip(*used, strict=True)
    return replace(budget, each=each, shares=by_memory)


def _without_full_gpus(requested: LoadOptions) -> LoadOptions:
    """Leaves out GPUs without free memory, on which libllama would place layers all the same."""
    from localmtp.engine.llama.offload import used_devices

    chosen = requested.devices
    if chosen.names is not None or chosen.tensor_split or chosen.split_mode is SplitMode.NONE:
        return requested
    found = used_devices(None, chosen)
    usable = tuple(device.name for device in found if device.free > _GPU_HEADROOM)
    if len(usable) == len(found) or not usable:
        return requested
    return replace(requested, devices=replace(chosen, names=usable))


def shortage(name: str, shape: ModelShape, weights: Weights) -> str:
    """Says by how much memory is short for a chat; empty if it suffices.

    Args:
        name: of the model.
        shape: of the target.
        weights: of both files.
    """
    if weights.target < _SMALL or fits(shape, weights, budget := available_memory()):
        return ""
    needed = estimate_memory(shape, weights, LoadOptions(context=MIN_CHAT_CONTEXT)).total
    return (
        f"{name} needs {needed / 1e9:.1f} GB of memory for a context of {MIN_CHAT_CONTEXT}; "
        f"{budget.total / 1e9:.1f} GB can be used"
    )


def parts_on_disk(first: Path) -> list[Path]:
    """Returns all files of a target, given its first one."""
    names = (path.name for path in first.parent.iterdir())
    return [first.with_name(name) for name in parts_of(names, first.name)]


def _whole_header(parts: Sequence[Path]) -> Header:
    """The settings of the first part with the tensors of all parts."""
    headers = [read_header(part) for part in parts]
    return replace(headers[0], tensors=tuple(chain.from_iterable(h.tensors for h in headers)))
