"""GPUs that the system knows, whether or not libllama can use them, and what that takes."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SYS, _DEV = Path("/sys"), Path("/dev")
_DISPLAY = "0x03"  # PCI class of display controllers
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
"""Other display controllers, of servers and virtual machines, compute nothing."""

_TIMEOUT_S = 10.0

_PACKAGES = {
    # By the installer: packages that a build for Vulkan needs, and CUDA's compiler.
    "apt-get": ("sudo apt-get install libvulkan-dev glslc spirv-headers", "nvidia-cuda-toolkit"),
    "dnf": ("sudo dnf install vulkan-devel glslc spirv-headers-devel", "cuda-toolkit"),
    "pacman": ("sudo pacman -S vulkan-headers shaderc spirv-headers", "cuda"),
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine."""

    name: str
    vendor: str
    """`NVIDIA`, `AMD`, `Intel` or `Apple`."""
    bus: str = ""
    """PCI address such as `0000:01:00.0`; empty if unknown."""


@dataclass(frozen=True, slots=True)
class System:
    """What decides about the use of GPUs; described by tests, otherwise this machine."""

    sys: Path = _SYS
    dev: Path = _DEV
    which: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], str] | None = None
    """Returns the output of a command, empty if it fails; None runs it."""
    name: str = platform.system()
    machine: str = platform.machine()

    def output(self, *command: str) -> str:
        """Returns the output of a command, or an empty string."""
        return (self.run or _output)(command)


def find_gpus(system: System | None = None) -> tuple[Gpu, ...]:
    """Lists the GPUs of the machine.

    On Linux from the PCI bus; elsewhere, and in containers without it, NVIDIA's by `nvidia-smi`.
    """
    system = system or System()
    if system.name == "Darwin" and system.machine == "arm64":
        return (Gpu(system.output("sysctl", "-n", "machdep.cpu.brand_string").strip(), "Apple"),)
    named = {gpu.bus: gpu for gpu in _from_nvidia_smi(system)}
    found = {gpu.bus: gpu for gpu in _on_pci_bus(system.sys)}
    return tuple({**found, **named}.values())


def advice_for(
    gpu: Gpu, backends: Sequence[str], rebuild: str, system: System | None = None
) -> str:
    """Says why libllama does not use a GPU, and which command changes that.

    Args:
        gpu: not among libllama's devices.
        backends: that libllama was built with.
        rebuild: command that builds libllama, with a field `{option}` for CMake.
        system: the machine.
    """
    system = system or System()
    compiled = {name.lower() for name in backends}
    wanted = {"NVIDIA": ("cuda", "vulkan"), "Apple": ("metal",)}.get(
        gpu.vendor, ("hip", "rocm", "sycl", "vulkan")
    )
    if compiled & set(wanted) or "mtl" in compiled:
        return f"{gpu.name} is not used: {_driver_advice(gpu, system)}"
    install, option = _build(gpu, system)
    command = rebuild.format(option=option)
    return (
        f"{gpu.name} is not used: {install} && {command}"
        if install
        else (f"{gpu.name} is not used: {command}")
    )


def _build(gpu: Gpu, system: System) -> tuple[str, str]:
    """Returns the command that installs what a build needs, or an empty string, and its option."""
    installer = next((name for name in _PACKAGES if system.which(name)), "")
    vulkan, cuda = _PACKAGES.get(installer, ("", ""))
    if gpu.vendor == "Apple":
        return "", "GGML_METAL"
    if gpu.vendor == "NVIDIA":
        has_nvcc = system.which("nvcc") or not cuda
        first = vulkan.partition(" lib")[0].partition(" vulkan")[0]
        return ("" if has_nvcc else f"{first} {cuda}"), "GGML_CUDA"
    if gpu.vendor == "AMD" and system.which("hipcc"):
        return "", "GGML_HIP"
    if gpu.vendor == "Intel" and system.which("icpx"):
        return "", "GGML_SYCL"
    return ("" if system.which("glslc") else vulkan), "GGML_VULKAN"


def _driver_advice(gpu: Gpu, system: System) -> str:
    """Explains a GPU that libllama was built for and does not find."""
    if gpu.vendor == "NVIDIA":
        if not system.output("nvidia-smi", "-L"):
            return "`nvidia-smi` finds no driver; install NVIDIA's"
        return "libllama does not find it; CUDA_VISIBLE_DEVICES or an older driver may hide it"
    nodes = [*system.dev.glob("dri/renderD*"), *system.dev.glob("kfd")]
    closed = [str(node) for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        return f"no access to {closed[0]}: sudo usermod -aG render,video $USER, then log in again"
    if system.name == "Linux" and not nodes:
        return f"there is no {system.dev}/dri/renderD*: the kernel's driver is not loaded"
    if gpu.vendor == "Apple":
        return "Metal finds no device; a remote session may have none"
    return "the Vulkan loader finds no driver: sudo apt-get install mesa-vulkan-drivers"


def _from_nvidia_smi(system: System) -> Iterator[Gpu]:
    if not system.which("nvidia-smi"):
        return
    rows = system.output("nvidia-smi", "--query-gpu=name,pci.bus_id", "--format=csv,noheader")
    for row in rows.splitlines():
        name, _, bus = row.rpartition(",")
        if name:
            yield Gpu(name.strip(), "NVIDIA", normal_bus(bus))


def _on_pci_bus(sys: Path) -> Iterator[Gpu]:
    for device in sorted((sys / "bus/pci/devices").glob("*")):
        with suppress(OSError):
            vendor = _VENDORS.get((device / "vendor").read_text("ascii").strip())
            kind = (device / "class").read_text("ascii").strip()
            if vendor and kind.startswith(_DISPLAY):
                number = (device / "device").read_text("ascii").strip().removeprefix("0x")
                yield Gpu(f"{vendor} GPU {number}", vendor, normal_bus(device.name))


def normal_bus(bus: str) -> str:
    """Returns a PCI address in lower case with a domain of four digits."""
    domain, _, rest = bus.strip().lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else ""


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout
