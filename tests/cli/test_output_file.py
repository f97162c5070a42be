"""Files that commands write: others are never overwritten without `--force`."""

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.programs import localmtp

RUN = ("run", "nano", "Count from 1 to 5.", "--threads", "1", "--temp", "0", "--n-draft", "3")
BENCH = ("bench", "nano", "--threads", "1", "--prompts", "1", "--repeats", "1", "--max-tokens", "4",
         "--workload", "count", "--n-draft", "1")  # fmt: skip


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((*RUN, "--trace"), "notes.txt"),
        ((*BENCH, "--plot"), "mine.svg"),
        ((*BENCH, "--trace"), "a"),
    ],
)
def test_a_foreign_file_is_not_overwritten(
    tmp_path: Path, arguments: tuple[str, ...], name: str
) -> None:
    file = tmp_path / name
    file.write_text("precious", "utf-8")
    refused = localmtp(*arguments, str(file))
    assert refused.returncode == 1
    assert f"{file} exists" in refused.stderr
    assert "--force" in refused.stderr
    assert file.read_text("utf-8") == "precious"
    assert localmtp(*arguments, str(file), "--force").returncode == 0
    assert "precious" not in file.read_text("utf-8")
    assert localmtp(*arguments, str(file)).returncode == 0


def test_the_whole_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious", "utf-8")
    done = localmtp(*RUN, "--trace", "notes.txt", cwd=tmp_path)
    assert str(tmp_path / "notes.txt") in done.stderr


def test_a_missing_folder_is_named_before_anything_is_generated(tmp_path: Path) -> None:
    done = localmtp(*RUN, "--trace", str(tmp_path / "none" / "trace.jsonl"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert str(tmp_path / "none") in done.stderr


def test_a_pipe_is_written_in_place(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("needs named pipes in folders")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert localmtp(*RUN, "--trace", str(pipe)).returncode == 0
    reader.join(10)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert received[0].startswith(b'{"confidence": [')
