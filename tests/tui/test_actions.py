"""Slash commands and actions of the chat with the real `nano`."""

from __future__ import annotations

import json
from pathlib import Path

from textual.widgets import Input

from localmtp.history import History
from localmtp.session import Choices
from localmtp.tui.app import ChatApp
from localmtp.tui.commands.slash import COMMANDS, find, matching, nearest, parse
from localmtp.tui.screens.confirm import ConfirmScreen
from localmtp.tui.screens.history import HistoryScreen
from localmtp.tui.screens.race import RaceScreen
from localmtp.tui.screens.settings import SettingsScreen
from tests.tui.screen import answered, chat, nano, ready, seen, wait_until


def test_commands_are_found_by_name_and_alias() -> None:
    for command in COMMANDS:
        assert all(find(name) is command for name in (command.name, *command.aliases))
        assert command in matching(f"/{command.name[:2]}")
    assert parse("//not a command") is None
    assert parse("/set temp 0") == ("set", "temp 0")
    assert nearest("sesions") == "sessions"
    assert nearest("xyzzy") == ""


async def test_settings_by_command_and_on_the_settings_screen() -> None:
    app = chat()
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session
        for line in ("/set temp 0.5", "/draft 2", "/system Be brief.", "/think on"):
            conversation.prompt.put(line)
            await pilot.press("enter")
        assert session.settings.sampling.temperature == 0.5
        assert session.settings.n_draft == 2
        assert (session.settings.system, session.settings.think) == ("Be brief.", True)
        for wrong in ("/draft 99", "/set top-p 2", "/set nonsense 1", "/nonsense"):
            conversation.prompt.put(wrong)
            await pilot.press("enter")
        assert session.settings.n_draft == 2
        assert "unknown command /nonsense" in seen(app)
        await pilot.press("f2")
        await wait_until(pilot, lambda: isinstance(app.screen, SettingsScreen), "it is open")
        assert app.screen.focused is app.screen.query_one("#temp")
        app.screen.query_one("#top-k", Input).value = "7"
        await pilot.press("enter")
        await wait_until(pilot, lambda: session.settings.sampling.top_k == 7, "it is applied")
        assert session.settings.system == "Be brief."


async def test_editing_an_earlier_message_branches_and_keeps_the_original(
    tmp_path: Path,
) -> None:
    history = tmp_path / "history.sqlite3"
    app = ChatApp("nano", lambda name, report: nano(), history)
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await wait_until(pilot, lambda: conversation.saver.history is not None, "history is open")
        conversation.prompt.put("/system Be brief.")
        await pilot.press("enter", *"one", "enter", *"two", "enter")
        await answered(pilot, conversation, messages=4)
        conversation.prompt.put("/system")
        await pilot.press("enter", "alt+up", "up", "up", "up", "e")
        assert conversation.prompt.text == "one"
        await pilot.press("s", "enter")
        await answered(pilot, conversation)
        assert conversation.session
        assert [m.text for m in conversation.session.messages][::2] == ["ones"]
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: isinstance(app.screen, HistoryScreen), "the list is open")
        await wait_until(pilot, lambda: "4 messages" in seen(app), "both are listed")
        await pilot.press("down", "down", "enter")
        session = conversation.session
        await wait_until(pilot, lambda: len(session.messages) == 4, "the old one is opened")
        assert session.settings.system == "Be brief."
    app.close()
    texts = [m.text for m in History(history).load(1)]
    assert texts[::2] == ["one", "two"]


async def test_retry_delete_and_new() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        first = session.messages[-1]
        await pilot.press("ctrl+r")
        await answered(pilot, conversation)
        assert len(session.messages) == 2
        assert session.messages[-1] is not first
        conversation.prompt.put("/restore")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(session.messages) == 4, "the earlier answer")
        assert session.messages[1] is first
        entries = conversation.transcript.entries[-4:]
        assert [entry.text for entry in entries] == [m.text for m in session.messages]
        conversation.prompt.put("/undo")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(session.messages) == 2, "one answer")
        await pilot.press(*"two", "enter")
        await answered(pilot, conversation, messages=4)
        await pilot.press("alt+up", "d")
        assert [m.text for m in session.messages][::2] == ["one"]
        await pilot.press("ctrl+n")
        assert session.messages == []


async def test_continue_resumes_a_cut_answer() -> None:
    app = chat(lambda: nano(Choices(temperature=0.0, max_tokens=3)))
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session
        conversation.prompt.put("Write a long story about George the hedgehog.")
        await pilot.press("enter")
        await answered(pilot, conversation)
        cut = session.messages[-1].text
        conversation.prompt.put("/continue")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(session.messages[-1].text) > len(cut), "more text")
        await answered(pilot, conversation)
        assert session.messages[-1].text.startswith(cut)
        assert conversation.transcript.entries[-1].text == session.messages[-1].text


async def test_a_race_leaves_the_conversation_unchanged() -> None:
    app = chat()
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        messages, settings = list(session.messages), session.settings
        conversation.prompt.put("/race Count to ten.")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "too short to compare" in seen(app), "the race is over")
        assert isinstance(app.screen, RaceScreen)
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat, "the chat is back")
        assert (session.messages, session.settings) == (messages, settings)


async def test_export_and_save_stats(tmp_path: Path) -> None:
    app = chat()
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        for line, last in (("/export {}/a.md", "a.md"), ("/save-stats {}/b.json", "b.svg")):
            conversation.prompt.put(line.format(tmp_path))
            await pilot.press("enter")
            await wait_until(pilot, (tmp_path / last).exists, f"{last} is written")
        assert "## You\n\none" in (tmp_path / "a.md").read_text()
        measured = json.loads((tmp_path / "b.json").read_text())
        assert measured["messages"][1]["stats"]["completion_tokens"] > 0
        assert (tmp_path / "b.svg").read_text().startswith("<svg")
        conversation.prompt.put(f"/export {tmp_path}/no/such/folder.md")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "cannot write" in seen(app), "the reason is shown")


async def test_export_never_overwrites_without_asking(tmp_path: Path) -> None:
    app = chat()
    mine = tmp_path / "a.md"
    mine.write_text("mine")
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        for answer in ("n", "y"):
            assert mine.read_text() == "mine"
            conversation.prompt.put(f"/export {mine}")
            await pilot.press("enter")
            await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen), "it asks")
            assert str(mine) in seen(app).replace("\n", "")
            await pilot.press(answer)
        await wait_until(pilot, lambda: "## You" in mine.read_text(), "it is overwritten")


async def test_a_deleted_exchange_can_be_restored() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session
        for number, word in enumerate(("one", "two", "three"), 1):
            await pilot.press(*word, "enter")
            await answered(pilot, conversation, messages=2 * number)
        messages, entries = list(session.messages), list(conversation.transcript.entries)
        await pilot.press("alt+up", "up", "d", "d")
        assert [m.text for m in session.messages][::2] == ["one"]
        await pilot.press("u", "u")
        assert session.messages == messages
        await pilot.press("escape", *"/undo", "enter")
        assert len(session.messages) == 4
        await pilot.press(*"/restore", "enter")
        assert session.messages == messages
        assert conversation.transcript.entries == entries


async def test_the_theme_is_remembered(tmp_path: Path) -> None:
    theme_file = tmp_path / "state" / "theme"
    for before, after in (("dark", "light"), ("light", "dark"), ("dark", "light")):
        app = ChatApp("nano", lambda name, report: nano(), theme_file=theme_file)
        async with app.run_test() as pilot:
            assert app.theme == f"localmtp-{before}"
            await pilot.press("f5")
            assert app.theme == f"localmtp-{after}"
        app.close()
