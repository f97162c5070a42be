"""Text files attached to messages with `@FILE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from localmtp.errors import LocalmtpError
from localmtp.tui.app import ChatApp
from localmtp.tui.commands.attachments import (
    FileMatch,
    as_block,
    complete_reference,
    expand_references,
    files_below,
    matching_files,
    read_text,
    reference_before,
)
from tests.tui.frozen import FrozenSession
from tests.tui.screen import answered, ready, seen, wait_until


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("@", ""),
        ("see @no", "no"),
        ("two\nlines @src/a", "src/a"),
        ('see @"my f', "my f"),
        ("mail@host", None),
        ("@done ", None),
        ("", None),
    ],
)
def test_a_reference_is_recognized_at_the_cursor(text: str, beginning: str | None) -> None:
    assert reference_before(text) == beginning


def test_references_are_completed_with_quotes_where_needed() -> None:
    assert complete_reference("see @no", FileMatch("notes.txt", 1)) == "see @notes.txt "
    assert complete_reference("see @my", FileMatch("my file", 1)) == 'see @"my file" '


def test_matching_prefers_names_that_begin_alike() -> None:
    files = [FileMatch(path, 1) for path in ("docs/chat.md", "tui/screens/chat.py", "cat.txt")]
    assert [one.path for one in matching_files(files, "chat")] == [
        "docs/chat.md",
        "tui/screens/chat.py",
    ]
    assert [one.path for one in matching_files(files, "tscp")] == ["tui/screens/chat.py"]
    assert matching_files(files, "(") == []


def test_hidden_and_generated_folders_are_not_searched(tmp_path: Path) -> None:
    for name in ("a/b/deep.txt", "top.txt", ".git/config", "node_modules/x.js"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")
    assert [one.path for one in files_below(tmp_path)] == ["top.txt", "a/b/deep.txt"]


def test_only_regular_text_files_are_read(tmp_path: Path) -> None:
    for name, content in (
        ("binary", b"\x89PNG\0"),
        ("latin-1", b"\xff"),
        ("large", b"x" * (2 << 20)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LocalmtpError, match=r"not a text file|larger than 1 MiB"):
            read_text(tmp_path / name)
    with pytest.raises(LocalmtpError, match="cannot read"):
        read_text(tmp_path / "missing")
    with pytest.raises(LocalmtpError, match="not a regular file"):
        read_text(tmp_path)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(LocalmtpError, match="not a regular file"):
            read_text(tmp_path / "pipe")


def test_fences_inside_a_file_do_not_end_its_block() -> None:
    assert as_block("a.md", "```\ncode\n```\n") == "a.md:\n\n````\n```\ncode\n```\n````"


def test_only_attached_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("content")
    match = FileMatch(str(file), 7)
    assert expand_references(f"see @{file}", {}) == (f"see @{file}", "")
    message, notice = expand_references(f"see @{file}", {match.reference: match})
    assert message == f"see @{file}\n\n{file}:\n\n```\ncontent\n```"
    assert notice == f"attached {file}: 7 B, about 1 token"
    assert expand_references(f"see @{file}x", {match.reference: match})[1] == ""


async def test_a_file_is_completed_attached_and_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("\n".join(f"line {n}" for n in range(40)))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "binary.md").write_bytes(b"\x89PNG\0")
    app = ChatApp("nano", lambda name, report: FrozenSession("An answer."))
    async with app.run_test(size=(100, 40)) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"Sum up @nts")
        await wait_until(pilot, lambda: "309 B, about 77 tokens" in seen(app), "it is listed")
        await pilot.press("tab")
        assert conversation.prompt.text == "Sum up @notes.txt "
        await pilot.press("enter")
        await answered(pilot, conversation)
        assert conversation.session
        sent = conversation.session.messages[0].text
        assert sent.startswith("Sum up @notes.txt\n\nnotes.txt:\n\n```\nline 0\n")
        assert "attached notes.txt: 309 B" in seen(app)
        assert "line 39" not in seen(app)
        await pilot.press("alt+up", "up", "t")
        assert "line 39" in seen(app)
        await pilot.press("escape", *"@pic")
        await wait_until(pilot, lambda: "@picture.png" in seen(app), "it is listed")
        await pilot.press("tab")
        await wait_until(pilot, lambda: "is no image and no sound" in seen(app), "it is refused")
        assert conversation.prompt.text == "@picture.png "
        await pilot.press("escape", *"@bin")
        await wait_until(pilot, lambda: "@binary.md" in seen(app), "it is listed")
        await pilot.press("tab", "enter")
        await wait_until(pilot, lambda: "is not a text file" in seen(app), "it is refused")
        assert conversation.prompt.text == "@binary.md"
        assert len(conversation.session.messages) == 2
