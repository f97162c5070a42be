"""Weights on the processor are repacked for its matrix products, unless that is turned off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pairs import TINY, write_pair

REPORT = """
import ctypes, sys
from pathlib import Path
from llama_cpp import llama_cpp as capi
from localmtp.engine.device_options import DeviceOptions, Switch
from localmtp.engine.llama import Model, Offload

lines = []

@capi.llama_log_callback
def keep(level, text, data):
    lines.append(text.decode())

capi.llama_log_set(keep, ctypes.c_void_p(0))
with Model(Path(sys.argv[1]), offload=Offload(0, DeviceOptions(repack=Switch(sys.argv[2])))):
    print("REPACK model buffer" in "".join(lines))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other processors repack other types")
@pytest.mark.parametrize(("mode", "repacked"), [("auto", True), ("on", True), ("off", False)])
def test_weights_on_the_processor_are_repacked(mode: str, repacked: bool, tmp_path: Path) -> None:
    """Also where there are devices, since none takes part with no layers on it."""
    target = tmp_path / "target.gguf"
    write_pair(TINY["dense"], target, tmp_path / "mtp.gguf", hollow=True)
    command = [sys.executable, "-c", REPORT, str(target), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{repacked}\n"
