"""`verify --source`: a GGUF equals its checkpoint, and differs from another one."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.convert.checkpoints import write_checkpoint, write_json


def localmtp(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmtp", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def verify(gguf: Path, source: Path) -> dict[str, object]:
    done = localmtp("verify", str(gguf), "--source", str(source), "--prompts", "1",
                    "--threads", "1", "--json")  # fmt: skip
    assert done.stdout, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == (0 if report["passed"] else 1)
    return report


@pytest.mark.skipif(
    find_spec("torch") is None or find_spec("transformers") is None,
    reason="torch and transformers are not installed",
)
def test_a_wrong_conversion_is_found(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", "31B", dtype="F32")
    done = localmtp("convert", str(source), "--out", str(tmp_path), "--quant", "F32",
                    "--quant", "Q8_0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    exact, eight = (verify(tmp_path / f"tiny-{quant}.gguf", source) for quant in ("F32", "Q8_0"))
    assert exact["passed"] is True
    assert float(str(exact["agreement"])) > 0.99
    assert float(str(exact["divergence"])) < float(str(eight["divergence"]))
    settings = json.loads((source / "config.json").read_text())
    settings["rope_parameters"]["sliding_attention"]["rope_theta"] = 10.0
    settings["final_logit_softcapping"] = 10.0
    write_json(source / "config.json", settings)
    assert verify(tmp_path / "tiny-F32.gguf", source)["passed"] is False


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is installed")
def test_without_transformers_an_error_says_what_to_install(tmp_path: Path) -> None:
    done = localmtp("verify", "nano", "--source", str(tmp_path))
    assert done.returncode == 1
    assert "torch" in done.stderr
    assert "pip install" in done.stderr
