"""The report of `localmtp doctor`: the machine, libllama's backends, and the models that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

from localmtp.engine.llama.ggml import Device, backends, devices, every_device
from localmtp.hardware import cpu
from localmtp.hardware.bandwidth import memory_bandwidth
from localmtp.hardware.gpus import Gpu, System, advice_for, find_gpus, normal_bus
from localmtp.hardware.memory import main_memory
from localmtp.models.listing import context_within
from localmtp.models.memory.available import budget_of
from localmtp.models.memory.estimate import decode_rate_bound
from localmtp.models.memory.placement import MemoryBudget, division
from localmtp.models.naming.registry import Quant, RegistryEntry, entries, find
from localmtp.models.store.installed import installed_models
from localmtp.paths import registry_file


@dataclass(frozen=True, slots=True)
class ModelFit:
    """A registry model on this machine.

    Rates are upper bounds: they count the time to read the weights from main memory. The rate with
    drafting assumes that a pass over several tokens costs as much as one over a single token, and
    an acceptance rate of `ACCEPTANCE`. Where decoding is bound by compute, drafting gains less.
    """

    model: str
    bytes: int
    context: int
    """Largest context that fits, in tokens; 0 if none does."""
    n_draft: int
    """Draft length of the last rate; 0 without a drafter."""
    tokens_per_s: float
    """0 if a discrete GPU or another machine takes part, whose bandwidth is not measured."""
    tokens_per_s_drafting: float
    division: str = ""
    """What would be on the GPU; empty without one, or if the model does not fit."""


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """A GPU of the machine, and whether libllama uses it."""

    name: str
    vendor: str
    used_as: str
    """libllama's name for it; empty if it does not use it."""
    advice: str
    """Why it is not used, and the command that changes that; empty if it is used."""


@dataclass(frozen=True, slots=True)
class MachineReport:
    """This machine. Sizes are in bytes, the bandwidth in bytes per second."""

    processor: str
    cores: int
    instructions: tuple[str, ...]
    """Instruction sets and libraries that libllama was built for."""
    memory: int
    usable_memory: int
    bandwidth: float
    backends: tuple[str, ...]
    """Backends that this libllama was built with."""
    devices: tuple[Device, ...]
    """GPUs that it can use, and devices of RPC servers."""
    gpus: tuple[GpuStatus, ...]
    """GPUs that the system knows."""
    llama_cpp_python: str
    registry: str
    """Path of the user's own registry entries."""
    models: tuple[ModelFit, ...]
    advice: tuple[str, ...]
    """Builds of libllama that would be faster here, and projectors that are missing, one line
    each."""
    media: str = ""
    """Libraries that read images and sound."""


def examine() -> MachineReport:
    """Examines the machine; takes a few seconds."""
    memory, accelerators, bandwidth = main_memory(), devices(), memory_bandwidth()
    features = cpu.built_features()
    budget = budget_of(memory.usable, accelerators)
    gpus = gpu_status(backends(), every_device())
    return MachineReport(
        processor=cpu.processor(),
        cores=cpu.cores(),
        instructions=features,
        memory=memory.total,
        usable_memory=memory.usable,
        bandwidth=bandwidth,
        backends=backends(),
        devices=accelerators,
        gpus=gpus,
        llama_cpp_python=version("llama-cpp-python"),
        registry=str(registry_file()),
        models=tuple(
            _model_fit(entry, quant, budget, bandwidth)
            for entry in entries().values()
            for quant in entry.quants
        ),
        advice=(
            *(gpu.advice for gpu in gpus if gpu.advice),
            *_cpu_advice(features),
            *_missing_projectors(),
        ),
        media=_media_libraries(),
    )


def _model_fit(
    entry: RegistryEntry, quant: Quant, budget: MemoryBudget, bandwidth: float
) -> ModelFit:
    n_draft = (entry.n_draft or 0) if quant.drafter or quant.head else 0
    rates = [0.0, 0.0]
    if entry.shape and quant.nbytes and (budget.unified or not budget.gpu) and not budget.remote:
        weights = quant.sizes
        rates = [decode_rate_bound(entry.shape, weights, bandwidth, n) for n in (0, n_draft)]
    name = f"{entry.name}:{quant.label}"
    context = context_within(entry, quant, budget)
    divided = division(entry.shape, quant.sizes, entry.context, budget) if entry.shape else ""
    return ModelFit(name, quant.nbytes, context, n_draft, rates[0], rates[1], divided)


def gpu_status(
    backends: Sequence[str], devices: Sequence[Device], system: System | None = None
) -> tuple[GpuStatus, ...]:
    """Compares the GPUs that the system knows with those that libllama finds.

    Args:
        backends: that libllama was built with.
        devices: that it finds.
        system: the machine.
    """
    found = []
    for gpu in find_gpus(system):
        used = next((each.name for each in devices if _is(each, gpu)), "")
        advice = "" if used else advice_for(gpu, backends, _rebuild("{option}"), system)
        found.append(GpuStatus(gpu.name, gpu.vendor, used, advice))
    # Integrated graphics next to a GPU in use are not worth a command.
    if any(each.used_as for each in found):
        found = [each if each.used_as else replace(each, advice="") for each in found]
    return tuple(found)


def _is(device: Device, gpu: Gpu) -> bool:
    if device.remote:
        return False
    if device.bus and gpu.bus:
        return normal_bus(device.bus) == gpu.bus
    return gpu.vendor.lower() in device.description.lower()


def _cpu_advice(features: Sequence[str]) -> Iterator[str]:
    """Names instruction sets that this build of libllama does not use."""
    missing = sorted(cpu.instruction_sets() - set(features))
    if missing:
        yield f"the processor's {', '.join(missing)} is not used: {_rebuild('GGML_NATIVE')}"


def _missing_projectors() -> Iterator[str]:
    """Names models on this machine that could read images, if their projector were here."""
    for model in installed_models():
        entry = find(model.name.partition(":")[0])
        if model.projector is None and entry is not None and entry.projector is not None:
            yield f"{model.name} reads no images: `localmtp pull {model.name}` adds its projector"


def _media_libraries() -> str:
    images = f"Pillow {version('pillow')}"
    try:
        import soundfile
    except (ImportError, OSError):
        return f"{images}; sound cannot be read: libsndfile is not installed"
    return f"{images}, libsndfile {soundfile.__libsndfile_version__}"


def _rebuild(option: str) -> str:
    return (
        f'CMAKE_ARGS="-D{option}=on" pip install --force-reinstall --no-cache-dir '
        f"--no-binary llama-cpp-python llama-cpp-python=={version('llama-cpp-python')}"
    )
