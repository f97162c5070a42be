"""The report of `localmtp doctor`: the machine, libllama's backends, and the models that fit."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from localmtp.engine.llama.ggml import Device, backends, devices
from localmtp.hardware import cpu
from localmtp.hardware.bandwidth import memory_bandwidth
from localmtp.hardware.memory import main_memory
from localmtp.models.listing import context_within
from localmtp.models.memory.available import budget_of
from localmtp.models.memory.estimate import decode_rate_bound
from localmtp.models.memory.placement import MemoryBudget
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
    return MachineReport(
        processor=cpu.processor(),
        cores=cpu.cores(),
        instructions=features,
        memory=memory.total,
        usable_memory=memory.usable,
        bandwidth=bandwidth,
        backends=backends(),
        devices=accelerators,
        llama_cpp_python=version("llama-cpp-python"),
        registry=str(registry_file()),
        models=tuple(
            _model_fit(entry, quant, budget, bandwidth)
            for entry in entries().values()
            for quant in entry.quants
        ),
        advice=(*_advice(features, accelerators), *_missing_projectors()),
        media=_media_libraries(),
    )


def _model_fit(
    entry: RegistryEntry, quant: Quant, budget: MemoryBudget, bandwidth: float
) -> ModelFit:
    n_draft = (entry.n_draft or 0) if quant.drafter else 0
    rates = [0.0, 0.0]
    if entry.shape and quant.nbytes and (budget.unified or not budget.gpu) and not budget.remote:
        weights = quant.sizes
        rates = [decode_rate_bound(entry.shape, weights, bandwidth, n) for n in (0, n_draft)]
    name = f"{entry.name}:{quant.label}"
    return ModelFit(name, quant.nbytes, context_within(entry, quant, budget), n_draft, *rates)


def _advice(features: Sequence[str], devices: Sequence[Device]) -> Iterator[str]:
    """Names hardware that this build of libllama does not use."""
    if all(device.remote for device in devices):
        if shutil.which("nvidia-smi"):
            yield _rebuild("an NVIDIA GPU is not used", "GGML_CUDA")
        elif Path("/dev/kfd").exists():
            yield _rebuild("an AMD GPU is not used", "GGML_HIP")
        elif any(Path("/dev/dri").glob("renderD*")):
            yield _rebuild("a GPU is not used", "GGML_VULKAN")
        elif platform.system() == "Darwin" and platform.machine() == "arm64":
            yield _rebuild("Metal is not used", "GGML_METAL")
    missing = sorted(cpu.instruction_sets() - set(features))
    if missing:
        yield _rebuild(f"the processor's {', '.join(missing)} is not used", "GGML_NATIVE")


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


def _rebuild(reason: str, option: str) -> str:
    return (
        f'{reason}: CMAKE_ARGS="-D{option}=on" pip install --force-reinstall --no-cache-dir '
        f"--no-binary llama-cpp-python llama-cpp-python=={version('llama-cpp-python')}"
    )
