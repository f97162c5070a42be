"""Estimated GPU memory against what libllama allocates, for divisions of a model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.llama.ggml import devices
from localmtp.engine.load_options import LoadOptions
from localmtp.models.gguf_header import read_header
from localmtp.models.memory.estimate import estimate_memory, weights_of
from localmtp.models.memory.shape import shape_of
from tests.pairs import Size, write_pair

pytestmark = pytest.mark.device

ROOT = Path(__file__).parents[2]
CONTEXT = 4096

DENSE = Size(12, 6, 2048, 8, 4, 1, 8192, 512, 8192, (256, 4, 1024))
SHAPES = {
    "dense": DENSE,
    "shared": replace(DENSE, kv_heads=1, shared=6, per_layer=64, k_is_v=False),
    "experts": replace(DENSE, experts=(16, 4, 1024)),
}


def allocated(target: Path, tried: list[LoadOptions]) -> list[dict[str, float]]:
    """Returns the bytes of each buffer for each of the options."""
    rows = [
        {
            "gpu_layers": each.gpu_layers,
            "cpu_moe": each.devices.cpu_moe,
            "kv_offload": each.devices.kv_offload,
            "overrides": each.devices.overrides,
        }
        for each in tried
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.device_buffers", str(target), str(CONTEXT)],
        input="\n".join(map(json.dumps, rows)),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", SHAPES)
def test_every_division_takes_the_estimated_memory(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_pair(SHAPES[name], target, tmp_path / "mtp.gguf", hollow=True)
    layers = SHAPES[name].layers
    tried = [
        LoadOptions(context=CONTEXT, gpu_layers=gpu_layers, devices=division)
        for gpu_layers, division in (
            (layers + 1, DeviceOptions()),
            (layers // 2, DeviceOptions()),
            (layers + 1, DeviceOptions(kv_offload=False)),
            (layers + 1, DeviceOptions(cpu_moe=layers // 2)),
            (layers + 1, DeviceOptions(cpu_moe=layers)),
            (layers + 1, DeviceOptions(overrides=(("ffn_down", "CPU"),))),
            (layers // 2, DeviceOptions(overrides=((r"blk\.0\.ffn", devices()[0].name),))),
        )
    ]
    header = read_header(target)
    for options, buffers in zip(tried, allocated(target, tried), strict=True):
        overrides = options.devices.overrides
        weights = weights_of(header, target.stat().st_size, 0, overrides)
        estimate = estimate_memory(shape_of(header), weights, options)
        on_gpu = sum(size for name, size in buffers.items() if name == devices()[0].name)
        print(name, options.gpu_layers, options.devices, estimate.gpu / on_gpu, buffers)
        assert estimate.gpu == pytest.approx(on_gpu, rel=0.1)


def test_no_layers_leave_every_device_alone(tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_pair(DENSE, target, tmp_path / "mtp.gguf", hollow=True)
    ((buffers),) = allocated(target, [LoadOptions(gpu_layers=0)])
    assert {name for name in buffers if not name.startswith("CPU")} == set()
    assert any("REPACK" in name for name in buffers) or sys.platform != "linux"
