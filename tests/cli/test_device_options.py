"""Options of placement: invalid values are one line, valid ones reach libllama."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmtp", "run", "nano", "Hi", "--threads", "1"]
    return subprocess.run(
        [*command, "--max-tokens", "4", "--temp", "0", "--json", *arguments],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--device", "CUDA7"), "error: there is no device `CUDA7`"),
        (("--device", "A,A"), "'A,A' is not a list of different devices"),
        (("--tensor-split", "3,x"), "'3,x' is not a list of shares, such as 3,1"),
        (("--tensor-split", "0,0"), "'0,0' is not a list of shares, such as 3,1"),
        (("--override-tensor", "(=CPU"), "'(' is not a regular expression"),
        (("--override-tensor", "ffn"), "'ffn' is not REGEX=DEVICE"),
        (
            ("--override-tensor", "ffn=CUDA7"),
            "error: `ffn=CUDA7` places tensors on a device that is not in use",
        ),
        (("--split-mode", "none", "--main-gpu", "99"), "error: there is no device number 99"),
        (("--tensor-split", ",".join(["1"] * 99)), "has more shares than there are devices"),
        (
            ("--flash-attn", "off", "--kv-type", "q8_0"),
            "error: a KV cache in q8_0 requires flash attention",
        ),
        (("--cpu-moe", "--n-cpu-moe", "3"), "--cpu-moe and --n-cpu-moe exclude each other"),
        (("--main-gpu", "1"), "--main-gpu needs --split-mode none"),
        (("--tensor-split", "3,1", "--split-mode", "none"), "one GPU has no shares"),
    ],
)
def test_a_value_that_does_not_apply_is_refused(flags: tuple[str, ...], error: str) -> None:
    done = run(*flags)
    assert done.returncode in (1, 2)
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_every_option_together_gives_the_same_answer() -> None:
    plain, placed = (
        json.loads(run(*flags).stdout)["token_ids"]
        for flags in (
            (),
            (
                *("--device", "none", "--cpu-moe", "--override-tensor", "ffn_down=CPU"),
                *("--no-kv-offload", "--flash-attn", "off", "--repack", "off"),
                *("--no-mmap", "--mlock", "--split-mode", "none"),
            ),
        )
    )
    assert placed == plain


def test_a_pattern_that_matches_no_tensor_is_named() -> None:
    done = run("--override-tensor", "ffn_dwn=CPU", "--override-tensor", "ffn_up=CPU")
    assert "no tensor matches `ffn_dwn`\n" in done.stderr


def test_experts_of_a_model_without_any_are_a_note() -> None:
    assert "have no effect: the model has no experts" in run("--cpu-moe").stderr


def test_layers_for_a_gpu_without_one_are_a_note() -> None:
    done = run("--gpu-layers", "9", "--device", "none")
    assert "--gpu-layers has no effect: no GPU is in use" in done.stderr
