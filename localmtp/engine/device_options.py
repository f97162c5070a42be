"""Options of placement: devices, tensors in main memory, attention, the model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

ALL_EXPERTS = 512
"""`cpu_moe` for all layers: `LLAMA_MAX_LAYERS`, the most that libllama supports."""


class SplitMode(StrEnum):
    """Division of a model among several GPUs.

    libllama's other modes are left out: `row` exists for CUDA and SYCL alone, and `tensor` refuses
    samplers on the device and does not share a KV cache between contexts.
    """

    LAYER = "layer"
    """Whole layers, in proportion to the free memory of each GPU."""
    NONE = "none"
    """One GPU alone."""


class Switch(StrEnum):
    """A setting that is on, off, or chosen."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Devices that a pair is loaded on, and what stays in main memory."""

    names: tuple[str, ...] | None = None
    """Devices to offload to, in this order, by libllama's names; None for all, () for none."""
    split_mode: SplitMode = SplitMode.LAYER
    tensor_split: tuple[float, ...] = ()
    """Share of the layers for each device, in any unit; empty: by free memory."""
    main_gpu: int = 0
    """Index of the only device of `SplitMode.NONE`."""
    cpu_moe: int | None = None
    """First layers whose experts stay in main memory; None to choose."""
    overrides: tuple[tuple[str, str], ...] = ()
    """(regular expression, device) of tensors that are placed by name; the first match applies."""
    kv_offload: bool = True
    """Keep the KV cache of offloaded layers on the GPU."""
    flash_attn: Switch = Switch.AUTO
    repack: Switch = Switch.AUTO
    """Copy weights that the CPU multiplies to its faster layout; see `repacks`."""
    mmap: bool = True
    """Map the file, instead of reading it into allocated memory."""
    mlock: bool = False
    """Keep the model in main memory: it is never swapped out."""
    sampling: Switch = Switch.AUTO
    """Choose tokens on the device; `auto` where it was measured to be faster."""


def repacks(options: DeviceOptions) -> bool:
    """Reports whether weights that stay in main memory are repacked.

    Once there is a GPU, libllama prefers memory for them that the GPU can read: prompts are then
    computed on the GPU, and passes of few rows on the CPU in the original layout, where they take
    1.4 to 1.8 times as long. Layers on the CPU are therefore repacked. Experts are not: each sees
    about one row of a pass, where the layout gains little, and prompts gain from the GPU.
    """
    if options.repack is Switch.AUTO:
        return not options.cpu_moe
    return options.repack is Switch.ON


def drafter_offloaded(gpu_layers: int | None, layers: int, own_kv_layers: int) -> bool:
    """Reports whether an MTP drafter is placed on the GPU.

    It attends to the KV cache of the target's last two layers that have one of their own, so it
    goes where these are: elsewhere every draft step would copy the cache.

    Args:
        gpu_layers: offloaded layers of the target, the output included; None for all.
        layers: layers of the target.
        own_kv_layers: its layers that do not reuse another layer's cache.
    """
    return gpu_layers is None or layers + 1 - gpu_layers <= max(0, own_kv_layers - 2)


def device_of(layer: int, layers: int, shares: Sequence[float]) -> int:
    """Returns the number of the device that libllama puts a layer on.

    Args:
        layer: its index among the offloaded layers; the output is the last.
        layers: number of offloaded layers, the output included.
        shares: of each device, in any unit.
    """
    total, below = sum(shares), 0.0
    for device, share in enumerate(shares):
        below += share
        if layer / layers < below / total:
            return device
    return len(shares) - 1
