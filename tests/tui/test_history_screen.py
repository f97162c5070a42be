"""Saved conversations on the screen: deleting, exporting, two chats with one conversation."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from localmtp.history import History
from localmtp.session import Message, Role, Settings
from localmtp.tui.app import ChatApp
from localmtp.tui.screens.confirm import ConfirmScreen
from localmtp.tui.screens.history import HistoryScreen
from tests.tui.frozen import FrozenSession
from tests.tui.screen import answered, ready, seen, wait_until

TURNS = [Message(Role.USER, "Tell me"), Message(Role.MODEL, "A story.")]


def saved(path: Path, *titles: str) -> Path:
    history = History(path / "history.sqlite3")
    for title in titles:
        history.save(history.begin(title, "nano"), TURNS, Settings())
    history.close()
    return path / "history.sqlite3"


def chat(history: Path) -> ChatApp:
    return ChatApp("nano", lambda name, report: FrozenSession("An answer."), history)


async def opened(pilot: Pilot[None], app: ChatApp) -> None:
    conversation = await ready(pilot, app)
    await wait_until(pilot, lambda: conversation.saver.history is not None, "history is open")
    await pilot.press("ctrl+l")
    await wait_until(pilot, lambda: "2 messages" in seen(app), "conversations are listed")


async def confirming(pilot: Pilot[None], app: ChatApp) -> None:
    await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen), "it asks")


async def test_deleting_asks_first(tmp_path: Path) -> None:
    app = chat(saved(tmp_path, "first", "second"))
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app)
        await pilot.press("f8")
        await confirming(pilot, app)
        assert "Delete “second” (2 messages)?" in seen(app)
        await pilot.press("escape")
        assert app.history and len(app.history.find()) == 2
        await pilot.press("f8")
        await confirming(pilot, app)
        await pilot.press("y")
        await wait_until(pilot, lambda: "second" not in seen(app), "it is deleted")
        assert [one.title for one in app.history.find()] == ["first"]
    app.close()


async def test_the_open_conversation_is_not_deleted(tmp_path: Path) -> None:
    app = chat(saved(tmp_path, "first"))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.chat.conversation.saver.conversation_id == 1, "opened")
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: isinstance(app.screen, HistoryScreen), "it is open")
        await wait_until(pilot, lambda: "2 messages" in seen(app), "conversations are listed")
        await pilot.press("f8")
        await wait_until(pilot, lambda: "this conversation" in seen(app), "it is refused")
        assert app.history and len(app.history.find()) == 1
    app.close()


async def test_exports_never_overwrite_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "conversation-1.md"
    mine.write_text("mine")
    app = chat(saved(tmp_path, "first"))
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app)
        await pilot.press("f9")
        await confirming(pilot, app)
        await pilot.press("n")
        assert mine.read_text() == "mine"
        await pilot.press("f9")
        await confirming(pilot, app)
        await pilot.press("y")
        await wait_until(pilot, lambda: "A story." in mine.read_text(), "it is overwritten")
    app.close()


async def test_renaming_can_be_cancelled(tmp_path: Path) -> None:
    app = chat(saved(tmp_path, "first"))
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app)
        await pilot.press("f2", "x", "escape")
        assert isinstance(app.screen, HistoryScreen)
        await pilot.press("f2", *" part", "enter")
        await wait_until(pilot, lambda: "first part" in seen(app), "it is renamed")
    app.close()


async def test_two_chats_with_one_conversation_save_both(tmp_path: Path) -> None:
    path = saved(tmp_path, "shared")
    app = chat(path)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app)
        await pilot.press("enter")
        conversation = app.chat.conversation
        await wait_until(pilot, lambda: conversation.saver.conversation_id == 1, "it is open")
        other = History(path)
        turns, settings = other.resume(1)
        other.save(1, [*turns, Message(Role.USER, "elsewhere")], settings or Settings())
        conversation.send("here")
        await answered(pilot, conversation, messages=4)
        await wait_until(pilot, lambda: "saved as a copy" in seen(app), "the copy is reported")
        assert [m.text for m in other.load(1)][2:] == ["elsewhere"]
        copy = conversation.saver.conversation_id
        assert copy and copy != 1
        assert [m.text for m in other.load(copy)][2:] == ["here", "An answer."]
        other.close()
    app.close()
