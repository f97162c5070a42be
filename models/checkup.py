"""What `localmtp doctor` finds out: the machine, its backends, and the models that fit it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from localmtp.engine.llama.ggml import Device, backends, devices
from localmtp.hardware import machine
from localmtp.models.listing import context_within
from localmtp.models.memory import estimate as fit
from localmtp.models.memory.available import room_with
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import Room
from localmtp.models.naming.registry import Entry, Quant, entries
from localmtp.paths import registry_file


@dataclass(frozen=True, slots=True)
class Fitting:
    """A registry model on this machine.

    Rates are bounds: what reading the weights from main memory takes, and for drafting as if
    verifying several tokens cost what one costs, with `ACCEPTANCE` of the drafts accepted. Where
    processors compute rather than wait, drafting gains less, or nothing.
    """

    model: str
    bytes: int
    context: int
    """The largest that fits; 0 when none does."""
    n_draft: int
    """The draft length that the last rate is for; 0 without a drafter."""
    tokens_per_s: float
    """0 where a GPU of its own memory or another machine takes part: that is not measured."""
    tokens_per_s_drafting: float


@dataclass(frozen=True, slots=True)
class Checkup:
    """This machine. Sizes are in bytes, bandwidth in bytes per second."""

    processor: str
    cores: int
    instructions: tuple[str, ...]
    """Instruction sets and libraries that libllama was built for."""
    memory: int
    usable_memory: int
    bandwidth: float
    backends: tuple[str, ...]
    """What this libllama was built to compute on."""
    devices: tuple[Device, ...]
    """GPUs that it can use, and devices of RPC servers."""
    llama_cpp_python: str
    registry: str
    """Where the user's own entries are read from."""
    models: tuple[Fitting, ...]
    advice: tuple[str, ...]
    """What to install for more speed."""


def checkup() -> Checkup:
    """Look at everything; takes a few seconds."""
    memory, accelerators, bandwidth = machine.memory(), devices(), machine.bandwidth()
    instructions = machine.instructions()
    room = room_with(memory.usable, accelerators)
    return Checkup(
        processor=machine.processor(),
        cores=machine.cores(),
        instructions=instructions,
        memory=memory.total,
        usable_memory=memory.usable,
        bandwidth=bandwidth,
        backends=backends(),
        devices=accelerators,
        llama_cpp_python=version("llama-cpp-python"),
        registry=str(registry_file()),
        models=tuple(
            _fitting(entry, quant, room, bandwidth)
            for entry in entries().values()
            for quant in entry.quants
        ),
        advice=tuple(_advice(instructions, accelerators)),
    )


def _fitting(entry: Entry, quant: Quant, room: Room, bandwidth: float) -> Fitting:
    n_draft = (entry.n_draft or 0) if quant.drafter else 0
    rates = [0.0, 0.0]
    if entry.shape and quant.nbytes and (room.unified or not room.gpu) and not room.remote:
        weights = Weights(quant.nbytes, quant.drafter_nbytes)
        rates = [fit.tokens_per_second(entry.shape, weights, bandwidth, n) for n in (0, n_draft)]
    name = f"{entry.name}:{quant.label}"
    return Fitting(name, quant.nbytes, context_within(entry, quant, room), n_draft, *rates)


def _advice(instructions: Sequence[str], devices: Sequence[Device]) -> Iterator[str]:
    """Backends that this hardware could use and this installation lacks."""
    if all(device.remote for device in devices):
        if shutil.which("nvidia-smi"):
            yield _rebuilt("an NVIDIA GPU is not used", "GGML_CUDA")
        elif Path("/dev/kfd").exists():
            yield _rebuilt("an AMD GPU is not used", "GGML_HIP")
        elif any(Path("/dev/dri").glob("renderD*")):
            yield _rebuilt("a GPU is not used", "GGML_VULKAN")
        elif platform.system() == "Darwin" and platform.machine() == "arm64":
            yield _rebuilt("Metal is not used", "GGML_METAL")
    missing = sorted(machine.processor_instructions() - set(instructions))
    if missing:
        yield _rebuilt(f"the processor's {', '.join(missing)} is not used", "GGML_NATIVE")


def _rebuilt(reason: str, option: str) -> str:
    return (
        f'{reason}: CMAKE_ARGS="-D{option}=on" pip install --force-reinstall --no-cache-dir '
        f"--no-binary llama-cpp-python llama-cpp-python=={version('llama-cpp-python')}"
    )
