"""`localmtp convert` on the command line."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from localmtp.bench.lab.convert.gguf_contents import metadata
from tests.convert.checkpoints import write_checkpoint


def localmtp(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmtp", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_pair_is_converted_and_answers(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "tiny-it", "E2B")
    drafter = write_checkpoint(tmp_path / "tiny-it-assistant", "E2B-assistant")
    out = tmp_path / "out"
    done = localmtp("convert", target, drafter, "--out", out, "--quant", "q4_k_m", "--json")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    model, drafting = (file["parts"][0]["path"] for file in files)
    assert Path(model).name == "tiny-it-Q4_K_M.gguf"
    assert Path(drafting).name == "mtp-tiny-it-Q8_0.gguf"
    assert done.stderr == ""
    options = ["--temp", "0", "--max-tokens", "8", "--n-draft", "2", "--json"]
    answer = localmtp("run", model, "hello", "--drafter", drafting, *options)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["stats"]["drafted"] > 0


def test_the_table_lists_file_size_and_hash(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny-assistant", "E2B-assistant")
    done = localmtp("convert", source, "--out", tmp_path, "--quant", "F16", "--name", "nano")
    assert done.returncode == 0, done.stderr
    header, line = done.stdout.splitlines()
    assert header.split() == ["file", "size", "bits/weight", "sha256"]
    assert line.split()[:4] == [str(tmp_path / "mtp-nano-F16.gguf"), "1.43", "MB", "16.05"]


def test_the_last_line_is_a_command_that_runs_the_model(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "tiny it", "E2B")
    drafter = write_checkpoint(tmp_path / "tiny-it-assistant", "E2B-assistant")
    quants = ["--quant", "Q8_0", "--quant", "Q4_0"]
    done = localmtp("convert", target, drafter, "--out", tmp_path / "out", *quants)
    assert done.returncode == 0, done.stderr
    *_, heading, line = done.stdout.splitlines()
    program, *arguments = shlex.split(line)
    assert (heading, program) == ("Run it:", "localmtp")
    assert arguments == ["run", str(tmp_path / "out" / "tiny it-Q8_0.gguf")]
    answer = localmtp(*arguments, "hello", "--temp", "0", "--max-tokens", "4", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["stats"]["drafting"] == "on"


def test_errors_are_one_line_and_a_hint(tmp_path: Path) -> None:
    done = localmtp("convert", tmp_path / "missing", "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'missing'} does not exist",
        "hint: give a directory with config.json and *.safetensors",
    ]


@pytest.mark.parametrize("name", [".hidden", "two\nlines", "not UTF-8 \udcff", "x" * 220])
def test_a_directory_that_cannot_name_files_needs_a_name(tmp_path: Path, name: str) -> None:
    source = write_checkpoint(tmp_path / name, "E2B-assistant")
    out = tmp_path / "out"
    done = localmtp("convert", source, "--out", out, "--quant", "Q8_0")
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: files cannot be named after")
    assert hint == "hint: give a --name"
    done = localmtp("convert", source, "--out", out, "--quant", "Q8_0", "--name", "tiny")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.iterdir()] == ["mtp-tiny-Q8_0.gguf"]


def test_wrong_usage_exits_with_2(tmp_path: Path) -> None:
    assert localmtp("convert", tmp_path).returncode == 2
    done = localmtp("convert", tmp_path, "--out", tmp_path, "--drafter-quant", "Q8_0")
    assert (done.returncode, "DRAFTER_SOURCE" in done.stderr) == (2, True)
    done = localmtp("convert", tmp_path, "--out", tmp_path, "--tensor-type", "ffn_down")
    assert (done.returncode, "REGEX=TYPE" in done.stderr) == (2, True)
    done = localmtp("convert", tmp_path, "--out", tmp_path, "--part-size", "9" * 5000)
    assert (done.returncode, "is not a size" in done.stderr) == (2, True)


def test_a_licence_can_be_set(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny-assistant", "E2B-assistant")
    (source / "README.md").unlink()
    for flags, expected in (([], None), (["--license", "apache-2.0"], "apache-2.0")):
        done = localmtp("convert", source, "--out", tmp_path, "--quant", "F16", "--force", *flags)
        assert done.returncode == 0, done.stderr
        found = metadata(tmp_path / "mtp-tiny-F16.gguf").get("general.license")
        assert found == (expected and [["STRING"], expected])
