"""Files are replaced whole, and what is not a regular file is never replaced."""

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from localmtp.atomic import atomic_write, atomic_write_text
from localmtp.errors import LocalmtpError


def test_content_is_replaced_and_permissions_are_preserved(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    path.chmod(0o600)
    atomic_write_text(path, "new \ud800")
    assert path.read_text() == "new ?"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_error_in_the_block_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to("elsewhere/file")
    atomic_write_text(link, "one")
    atomic_write_text(link, "two")
    assert link.is_symlink()
    assert os.listdir(folder) == ["file"]
    assert link.read_text() == "two"


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_to(tmp_path: Path, linked: bool) -> None:
    if sys.platform == "win32":
        pytest.skip("needs named pipes in folders")
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    atomic_write_text(path, "through")
    reader.join()
    assert received == ["through"]
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev")
def test_a_device_is_written_in_place(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    atomic_write_text(link, "nothing")
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_the_file_behind_an_open_descriptor_stays(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as out:
        out.write("first ")
        out.flush()
        atomic_write_text(Path(f"/proc/self/fd/{out.fileno()}"), "second")
        out.seek(0)
        assert out.read() == "first second"


def test_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LocalmtpError, match=r"^cannot write .*: [^\n]+$"):
        atomic_write_text(tmp_path, "text")
    with pytest.raises(LocalmtpError, match="cannot write"):
        atomic_write_text(tmp_path / "missing" / "file", "text")
