"""`localmtp convert --merge`: the merged file equals the file that was not split."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localmtp.bench.lab.convert import reference
from localmtp.bench.lab.convert.gguf_contents import metadata, tensors
from localmtp.convert import Options, convert
from localmtp.convert.output.gguf_file import WorkFolder
from localmtp.convert.output.merge import merge
from localmtp.errors import LocalmtpError
from tests.convert import official
from tests.convert.checkpoints import write_checkpoint
from tests.convert.test_command import localmtp

PART = "model-Q8_0-0000{}-of-00003.gguf"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", "31B")


@pytest.fixture
def parts(tmp_path: Path, source: Path) -> Path:
    """Directory of a model split into three parts."""
    options = Options(quants=["Q8_0"], part_size=1_000_000, threads=1)
    convert(source, tmp_path / "parts", options=options)
    return tmp_path / "parts"


def test_the_merged_file_equals_the_file_that_was_not_split(
    tmp_path: Path, source: Path, parts: Path
) -> None:
    [whole] = convert(source, tmp_path / "whole", options=Options(quants=["Q8_0"], threads=1))
    out = tmp_path / "merged"
    done = localmtp("convert", "--merge", parts / PART.format(1), "--out", out, "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "model-Q8_0.gguf").read_bytes() == whole.path.read_bytes()
    assert whole.parts[0].sha256 in done.stdout
    assert len(list(parts.iterdir())) == 3
    again = localmtp("convert", "--merge", parts / PART.format(1), "--out", out)
    assert (again.returncode, "replace it with --force" in again.stderr) == (1, True)


def test_a_merge_removes_the_rest_of_a_killed_one_and_refuses_a_running_one(
    tmp_path: Path, parts: Path
) -> None:
    rest = tmp_path / "out" / ".model-Q8_0.gguf.partial"
    rest.mkdir(parents=True)
    (rest / "model-Q8_0.gguf").write_bytes(b"GGUF")
    with (
        WorkFolder(tmp_path / "out" / "model-Q8_0.gguf"),
        pytest.raises(LocalmtpError, match="is being written by another run"),
    ):
        merge(parts / PART.format(1), tmp_path / "out")
    merge(parts / PART.format(1), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model-Q8_0.gguf"]


@official.needs_llama_cpp
def test_parts_written_by_gguf_split_are_merged(tmp_path: Path, source: Path) -> None:
    [whole] = convert(source, tmp_path, options=Options(quants=["Q4_K_M"], threads=1))
    tool = reference.tool("llama-gguf-split")
    prefix = tmp_path / "split"
    for flags in (["--no-tensor-first-split"], []):
        command: list[str | Path] = [
            tool,
            "--split",
            "--split-max-tensors",
            "20",
            *flags,
            whole.path,
            prefix,
        ]
        subprocess.run(command, check=True, capture_output=True)
        first = next(iter(sorted(tmp_path.glob("split-00001-*.gguf"))))
        merged = merge(first, tmp_path / "out", force=True)
        assert tensors(merged.path) == tensors(whole.path)
        assert metadata(merged.path) == metadata(whole.path)
        for part in tmp_path.glob("split-*.gguf"):
            part.unlink()


def test_incomplete_parts_are_refused(tmp_path: Path, source: Path, parts: Path) -> None:
    first, second = parts / PART.format(1), parts / PART.format(2)
    with pytest.raises(LocalmtpError, match="is not the first part of a split model"):
        merge(second, tmp_path / "out")
    data = second.read_bytes()
    second.write_bytes(data[:-5000])
    with pytest.raises(LocalmtpError, match="its tensors exceed the file"):
        merge(first, tmp_path / "out")
    second.write_bytes(data[:300])
    with pytest.raises(LocalmtpError, match="is not a complete GGUF file"):
        merge(first, tmp_path / "out")
    second.write_bytes((parts / PART.format(3)).read_bytes())
    with pytest.raises(LocalmtpError, match="does not belong to the other parts"):
        merge(first, tmp_path / "out")
    second.unlink()
    with pytest.raises(LocalmtpError, match="is missing"):
        merge(first, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_headers_are_refused(tmp_path: Path, parts: Path) -> None:
    """Sets bytes of the first kilobyte to 255, one at a time."""
    first = parts / PART.format(1)
    data = first.read_bytes()
    for at in range(0, 1024, 7):
        first.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
        try:
            merge(first, tmp_path / "out", force=True)
        except LocalmtpError as error:
            assert "\n" not in error.message
