"""Bandwidth of the memory that holds a pair's weights: measured once per machine, and saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from localmtp.atomic import atomic_write_text
from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.llama import ALL_LAYERS
from localmtp.engine.llama.ggml import Device
from localmtp.engine.llama.offload import Offload, device_bandwidth
from localmtp.engine.weight_reads import WeightReads
from localmtp.errors import LocalmtpError
from localmtp.hardware import cpu
from localmtp.hardware.bandwidth import memory_bandwidth
from localmtp.models import ModelFiles
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.memory.shape import shape_of
from localmtp.paths import pacing_store
from localmtp.session.ranges import is_number

_WORTHWHILE = 1 << 28
"""Bytes of a target from which the bandwidth is measured when it is loaded: smaller ones load
faster than it can be measured, and may fit caches."""

_MOST = 1e15
"""Bytes per second above which a saved bandwidth is not plausible."""


def weight_reads(
    files: ModelFiles, gpu_layers: int | None, options: DeviceOptions, *, measure: bool = False
) -> WeightReads | None:
    """Returns what passes of a pair read; None if the bandwidth of its memory is unknown.

    The bandwidth is that of main memory, or of the GPU that holds all layers; it is unknown if the
    model is divided. It is read from the saved one, or measured: about a second for main memory.
    Called before loading, while memory is free.

    Args:
        files: the pair.
        gpu_layers: as in `LoadOptions`.
        options: devices.
        measure: also measure if it is saved, or the pair is small.
    """
    size = files.target_bytes
    offload = Offload(ALL_LAYERS if gpu_layers is None else gpu_layers, options)
    if offload.devices:
        layers = read_header(files.target, settings_only=True).number("block_count")
        one_local = len(offload.devices) == 1 and not offload.devices[0].remote
        if not one_local or not offload.is_complete(layers):
            return None
    bandwidth = _bandwidth(offload.devices, measure=measure, worthwhile=size >= _WORTHWHILE)
    if not bandwidth:
        return None
    shape = shape_of(header := read_header(files.target))
    return WeightReads(
        all=size,
        token=size * shape.read,
        more=size * shape.read_more,
        step=_step_bytes(files, header, size * shape.head_read),
        bandwidth=bandwidth,
    )


def _bandwidth(used: Sequence[Device], *, measure: bool, worthwhile: bool) -> float:
    """Returns the best bandwidth measured so far: on a busy machine, less is left."""
    name = used[0].summary if used else f"{cpu.processor()}, {cpu.cores()} cores"
    saved = _load()
    known = saved.get(name, 0.0)
    if measure or (worthwhile and not known):
        found = device_bandwidth(used[0].name) if used else memory_bandwidth()
        if found > known:
            known = saved[name] = found
            _save(saved)
    return known


def _step_bytes(files: ModelFiles, target: Header, head: float) -> float:
    """Bytes that a draft step reads; those of a head in the target's file by its tensors."""
    if files.drafter_file:
        return files.drafter_file.stat().st_size
    if not files.drafter or head:
        return head if files.drafter else 0.0
    last = f"blk.{target.number('block_count') - 1}."
    return sum(tensor.nbytes for tensor in target.tensors if tensor.name.startswith(last))


def _path() -> Path:
    return pacing_store() / "bandwidth.json"


def _load() -> dict[str, float]:
    """Returns bytes per second by device; what is not plausible is left out."""
    saved: Any = None
    with suppress(OSError, ValueError, RecursionError):
        saved = json.loads(_path().read_text("utf-8"))
    if not isinstance(saved, dict):
        return {}
    return {name: rate for name, rate in saved.items() if is_number(rate) and 0 < rate < _MOST}


def _save(saved: dict[str, float]) -> None:
    with suppress(OSError, LocalmtpError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps(saved), durable=False)
