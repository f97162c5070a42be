"""Advice of `doctor` about GPUs of described machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localmtp.engine.llama.ggml import Device
from localmtp.hardware.gpus import System
from localmtp.models.doctor import gpu_status

CUDA0 = Device("CUDA0", "NVIDIA GeForce RTX 4070", 11 << 30, 12 << 30, bus="0000:01:00.0")
SMI = "NVIDIA GeForce RTX 4070, 00000000:01:00.0\n"


def machine(
    folder: Path,
    *cards: tuple[str, str, str],
    programs: Sequence[str] = ("apt-get",),
    nodes: Sequence[str] = ("renderD128",),
    **described: str,
) -> System:
    """Describes a Linux machine.

    Args:
        folder: for the files of its system.
        cards: PCI address, vendor and class of each display controller.
        programs: found in PATH.
        nodes: in /dev/dri.
        described: other fields.
    """
    for bus, vendor, kind in cards:
        device = folder / "sys/bus/pci/devices" / bus
        device.mkdir(parents=True)
        for name, text in (("vendor", vendor), ("class", kind), ("device", "0x2786")):
            (device / name).write_text(f"{text}\n")
    (folder / "dev/dri").mkdir(parents=True, exist_ok=True)
    for node in nodes:
        (folder / "dev/dri" / node).touch()
    return System(
        folder / "sys",
        folder / "dev",
        which=lambda name: name if name in programs else None,
        run=lambda command: SMI if command[0] == "nvidia-smi" and "nvidia-smi" in programs else "",
        name=described.get("name", "Linux"),
        machine=described.get("machine", "x86_64"),
    )


NVIDIA = ("0000:01:00.0", "0x10de", "0x030000")
AMD = ("0000:0c:00.0", "0x1002", "0x030000")
INTEL = ("0000:00:02.0", "0x8086", "0x038000")
SERVER = ("0000:02:00.0", "0x1a03", "0x030000")
SOUND = ("0000:01:00.1", "0x10de", "0x040300")


def test_a_gpu_in_use_needs_nothing_and_neither_do_integrated_graphics_beside_it(
    tmp_path: Path,
) -> None:
    system = machine(tmp_path, NVIDIA, INTEL, SOUND, SERVER, programs=("nvidia-smi", "nvcc"))
    intel, nvidia = gpu_status(("CUDA", "CPU"), (CUDA0,), system)
    assert (nvidia.name, nvidia.used_as, nvidia.advice) == (
        "NVIDIA GeForce RTX 4070",
        "CUDA0",
        "",
    )
    assert (intel.vendor, intel.used_as, intel.advice) == ("Intel", "", "")


def test_a_build_without_cuda_is_rebuilt(tmp_path: Path) -> None:
    system = machine(tmp_path, NVIDIA, programs=("nvidia-smi", "nvcc", "apt-get"))
    (gpu,) = gpu_status(("CPU",), (), system)
    assert gpu.advice.startswith('NVIDIA GeForce RTX 4070 is not used: CMAKE_ARGS="-DGGML_CUDA=on"')
    assert "--force-reinstall" in gpu.advice
    without_nvcc = machine(tmp_path / "other", NVIDIA, programs=("nvidia-smi", "apt-get"))
    (gpu,) = gpu_status(("CPU",), (), without_nvcc)
    assert "sudo apt-get install nvidia-cuda-toolkit && CMAKE_ARGS" in gpu.advice


def test_other_vendors_use_vulkan_unless_their_compiler_is_there(tmp_path: Path) -> None:
    (gpu,) = gpu_status(("CPU",), (), machine(tmp_path / "1", AMD, programs=("dnf",)))
    assert "sudo dnf install vulkan-devel glslc" in gpu.advice
    assert "-DGGML_VULKAN=on" in gpu.advice
    (gpu,) = gpu_status(("CPU",), (), machine(tmp_path / "2", AMD, programs=("hipcc",)))
    assert "-DGGML_HIP=on" in gpu.advice
    (gpu,) = gpu_status(("CPU",), (), machine(tmp_path / "3", INTEL, programs=("glslc",)))
    assert 'not used: CMAKE_ARGS="-DGGML_VULKAN=on"' in gpu.advice


def test_a_gpu_that_the_build_supports_lacks_a_driver_or_access(tmp_path: Path) -> None:
    (gpu,) = gpu_status(("CUDA", "CPU"), (), machine(tmp_path / "1", NVIDIA))
    assert "`nvidia-smi` finds no driver" in gpu.advice
    (gpu,) = gpu_status(("Vulkan", "CPU"), (), machine(tmp_path / "2", AMD, nodes=()))
    assert "the kernel's driver is not loaded" in gpu.advice
    (gpu,) = gpu_status(("Vulkan", "CPU"), (), machine(tmp_path / "3", AMD))
    assert gpu.advice.endswith("sudo apt-get install mesa-vulkan-drivers")


def test_metal_is_found_by_its_name(tmp_path: Path) -> None:
    system = System(
        tmp_path, tmp_path, run=lambda _: "Apple M3 Pro\n", name="Darwin", machine="arm64"
    )
    metal = Device("MTL0", "Apple M3 Pro", 12 << 30, 18 << 30, unified=True)
    assert gpu_status(("MTL", "CPU"), (metal,), system)[0].used_as == "MTL0"
    (unused,) = gpu_status(("CPU",), (), system)
    assert unused.advice.startswith('Apple M3 Pro is not used: CMAKE_ARGS="-DGGML_METAL=on"')


def test_machines_without_gpus_get_no_advice(tmp_path: Path) -> None:
    assert gpu_status(("CPU",), (), machine(tmp_path, SERVER, programs=())) == ()
