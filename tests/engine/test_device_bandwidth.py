"""The bandwidth of devices, measured through ggml."""

import pytest

from localmtp.engine.llama.ggml import CPU, devices
from localmtp.engine.llama.offload import device_bandwidth


def test_the_bandwidth_of_the_processor_is_measured() -> None:
    assert 1e8 < device_bandwidth(CPU) < 1e13


@pytest.mark.device
def test_the_bandwidth_of_every_device_is_measured() -> None:
    for device in devices():
        assert 1e8 < device_bandwidth(device.name) < 1e14
