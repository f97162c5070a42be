"""Whether a pair has room on this machine, and how it is put there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.hardware import machine
from localmtp.limits import DEFAULT_CONTEXT
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.memory.estimate import Load, Weights, need, weights_of
from localmtp.models.memory.placement import (
    LEAST_CONTEXT,
    Placement,
    Room,
    fits,
    place,
)
from localmtp.models.memory.shape import Shape, shape_of
from localmtp.models.naming.quant import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localmtp.engine.llama.ggml import Device
    from localmtp.engine.pair import LoadOptions
    from localmtp.models.files import ModelFiles

_SMALL = 1 << 28
"""Files below this fit anywhere that Python runs, and start without looking."""

_GPU_HEADROOM = 1 << 30
"""Left free on every GPU, for its driver and its other users: llama.cpp's own default."""


def place_here(files: ModelFiles, asked: LoadOptions) -> Placement | None:
    """Choose how to load a pair, with the memory that is free now.

    Args:
        files: the pair.
        asked: what the user asked for stays as it is.

    Returns:
        None for a pair so small that there is nothing to choose.

    Raises:
        LocalmtpError: it does not fit; says what would.
    """
    weights = weights_on_disk(files)
    if weights.target < _SMALL:
        return None
    room = room_here()
    if room.gpu:
        header = _whole_header(_parts(files.target))
    else:
        header = read_header(files.target, settings_only=True)
    return place(
        files.name,
        shape_of(header),
        weights_of(header, weights.target, weights.drafter),
        header.number("context_length") or DEFAULT_CONTEXT,
        room,
        asked,
    )


def parallel_here(files: ModelFiles, asked: LoadOptions, most: int) -> int:
    """How many answers can be made at once without giving up context for it.

    Args:
        files: the pair.
        asked: as `place_here`.
        most: a power of two; halved until it fits.

    Raises:
        LocalmtpError: as `place_here`.
    """
    alone = place_here(files, replace(asked, parallel=1))
    while most > 1 and alone is not None:
        with suppress(LocalmtpError):
            together = place_here(files, replace(asked, parallel=most))
            if together is None or together.load.context >= min(
                alone.load.context, DEFAULT_CONTEXT
            ):
                break
        most //= 2
    return most


def weights_on_disk(files: ModelFiles) -> Weights:
    """The bytes of a pair's files, all parts of the target together."""
    drafter = files.drafter.stat().st_size if files.drafter else 0
    return Weights(sum(part.stat().st_size for part in _parts(files.target)), drafter)


def memory_of(files: ModelFiles, load: Load) -> dict[str, int]:
    """What a loaded pair takes, as predicted: bytes of its parts, the program left out."""
    weights, header = weights_on_disk(files), read_header(files.target, settings_only=True)
    needed = need(shape_of(header), weights, replace(load, gpu_layers=0))
    return {
        "target": needed.weights,
        "drafter": needed.drafter,
        "cache": needed.kv_cache,
        "buffers": needed.buffers,
    }


def room_here() -> Room:
    """The memory that a model may take on this machine now."""
    from localmtp.engine.llama.ggml import devices

    return room_with(machine.memory().usable, devices())


def room_with(usable: int, devices: Sequence[Device]) -> Room:
    """The memory that a model may take.

    Args:
        usable: bytes of main memory.
        devices: GPUs, and devices of RPC servers.
    """
    free = [max(0, device.free - _GPU_HEADROOM) for device in devices]
    unified = any(device.unified for device in devices)
    remote = sum(size for size, device in zip(free, devices, strict=True) if device.remote)
    return Room(usable, sum(free), sum(map(bool, free)), unified, remote)


def shortage(name: str, shape: Shape, weights: Weights) -> str:
    """What memory lacks for a short chat, in words; empty when there is enough.

    Args:
        name: of the model.
        shape: of the target.
        weights: of both files.
    """
    if weights.target < _SMALL or fits(shape, weights, room := room_here()):
        return ""
    needed = need(shape, weights, Load(LEAST_CONTEXT)).total
    return (
        f"{name} needs {needed / 1e9:.1f} GB of memory for {LEAST_CONTEXT} tokens of context, "
        f"{room.total / 1e9:.1f} GB can be used"
    )


def _parts(first: Path) -> list[Path]:
    """All files of a target whose first one is given."""
    names = (path.name for path in first.parent.iterdir())
    return [first.with_name(name) for name in parts_of(names, first.name)]


def _whole_header(parts: Sequence[Path]) -> Header:
    """The settings of the first part with the tensors of all."""
    headers = [read_header(part) for part in parts]
    return replace(headers[0], tensors=tuple(chain.from_iterable(h.tensors for h in headers)))
