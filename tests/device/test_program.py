"""The program on a device: statistics, doctor, bench and errors name it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from localmtp.engine.llama.ggml import devices

pytestmark = pytest.mark.device


def localmtp(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmtp", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_busy_processor_does_not_matter_where_a_device_computes() -> None:
    done = localmtp("run", "nano", "Hi", "--temp", "0", "--max-tokens", "8")
    assert done.returncode == 0
    assert "the processor is busy" not in done.stderr


def test_doctor_lists_what_libllama_uses() -> None:
    found = json.loads(localmtp("doctor", "--json").stdout)
    assert [each["name"] for each in found["devices"]] == [each.name for each in devices()]
    used = {each["used_as"] for each in found["gpus"] if each["used_as"]}
    assert used <= {each.name for each in devices()}


def test_bench_names_the_device_and_its_bandwidth() -> None:
    done = localmtp(
        *("bench", "run", "nano", "--workload", "code", "--prompts", "1", "--repeats", "1"),
        *("--n-draft", "0", "--max-tokens", "4", "--json"),
    )
    report = json.loads(done.stdout)
    assert report["machine"]["devices"][0].startswith(devices()[0].description)
    assert report["memory"]["bandwidth_bytes_per_s"] > 0
