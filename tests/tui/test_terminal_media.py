"""Images in the real program on a pseudo-terminal: dropped files, and the terminal's graphics."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from localmtp.history import History
from tests.media.samples import hollow_png, png
from tests.towers import write_towers

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

from tests.tui.test_terminal import CHAT, terminal


def dropped(text: str | Path) -> bytes:
    """What a terminal sends when files are dropped on it: a bracketed paste."""
    return b"\x1b[200~" + str(text).encode() + b"\x1b[201~"


def test_dropped_files_are_attached_or_one_line_each_and_the_chat_goes_on(tmp_path: Path) -> None:
    picture = tmp_path / "it's a photo.png"
    picture.write_bytes(png())
    wrong = {
        "empty.png": (b"", b"empty.png is empty"),
        "text.png": (b"only text", b"text.png is no image"),
        "cut.png": (png()[:90], b"cannot decode cut.png"),
        "bomb.png": (hollow_png(10_000, 10_000), b"100 megapixels"),
    }
    for name, (data, _) in wrong.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.png").symlink_to(picture)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    projector = str(write_towers(tmp_path / "mmproj-nano.gguf"))
    with terminal(tmp_path, *CHAT, "--mmproj", projector) as chat:
        chat.until(b"drafting on")
        for name, (_, line) in wrong.items():
            chat.type(dropped(tmp_path / name))
            chat.until(line)
            chat.until(name[-7:].encode())
            chat.type(b"\x1b")
            chat.until(b"essage nano")
        for name in ("folder.png", "pipe.png", "/dev/zero"):
            chat.type(f"/image {tmp_path / name}\r".encode())
            chat.until(b"not a regular file")
        chat.type(dropped(f"'{tmp_path}/it'\\''s a photo.png' {tmp_path}/link.png "))
        chat.until(b"link.png")
        chat.until(b"token")
        chat.type(b"What is it?\r")
        chat.until(b"time to first token")
        chat.type(b"\x11")
        assert chat.ended() == 0
    history = History(tmp_path / "localmtp" / "history.sqlite3")
    (saved,) = history.find()
    question, answer = history.load(saved.id)
    assert [media.name for media in question.media] == ["it's a photo.png", "link.png"]
    assert answer.text


@pytest.mark.parametrize("has_sixel", [True, False])
def test_previews_use_the_graphics_of_the_terminal(tmp_path: Path, has_sixel: bool) -> None:
    (tmp_path / "photo.png").write_bytes(png())
    with terminal(tmp_path, *CHAT, TERM_PROGRAM="WezTerm", TMUX="") as chat:
        chat.until(b"\x1b[c")
        # Attributes of the terminal; 4 is Sixel.
        chat.type(b"\x1b[?62;4;22c" if has_sixel else b"\x1b[?62;22c")
        chat.until(b"drafting on")
        chat.type(dropped(tmp_path / "photo.png"))
        chat.until(b"\x1bP0;0;0q" if has_sixel else "▀".encode())
        chat.until(b"photo.png")
        chat.type(b"\x11")
        assert chat.ended() == 0
