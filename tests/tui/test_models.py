"""Changing the model in the middle of a conversation."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from localmtp.session import Session
from localmtp.tui.app import ChatApp
from localmtp.tui.opening import Tell, opener
from localmtp.tui.screens.models import ModelsScreen
from localmtp.tui.widgets.conversation import Conversation
from tests.pairs import TINY, write_pair
from tests.tui.screen import answered, nano, prepared, ready, seen, wait_until


async def test_another_model_goes_on_with_the_conversation(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.gguf"
    write_pair(TINY["dense"], tiny, tmp_path / "mtp-tiny.gguf")
    app = ChatApp("nano", opener("nano", None, True, prepared))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        nano_session = conversation.session
        conversation.prompt.put("/draft 2")
        await pilot.press("enter", *"one", "enter")
        await answered(pilot, conversation)
        conversation.prompt.put(f"/model {tiny}")
        await pilot.press("enter")
        await wait_until(pilot, lambda: conversation.session is not nano_session, "it is changed")
        session = conversation.session
        assert session and session.name == "tiny.gguf"
        assert session.settings.n_draft == 2
        await pilot.press(*"two", "enter")
        await answered(pilot, conversation, messages=4)
        assert [m.text for m in session.messages][::2] == ["one", "two"]
        assert "tiny.gguf answers from here on" in seen(app)
    app.close()


def _says(conversation: Conversation, text: str) -> bool:
    return text in conversation.transcript.entries[-1].text


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_bytes(b"this is no model")
    app = ChatApp("nano", opener("nano", None, True, prepared))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        for name, reason in (
            (str(tmp_path / "not.gguf"), "is not a GGUF file"),
            ("no-such-model", "unknown model"),
            ("gemma4-e2b", "is not on this machine"),
        ):
            conversation.prompt.put(f"/model {name}")
            await pilot.press("enter")
            await wait_until(pilot, partial(_says, conversation, reason), f"it says: {reason}")
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        assert conversation.session is session
    assert app.chat.failure is None
    app.close()


async def test_the_loading_of_another_model_can_be_given_up() -> None:
    may_load = threading.Event()

    def slowly(model: str | None, tell: Tell) -> Session:
        if model != "nano":
            may_load.wait()
            tell("loaded")
        return nano()

    app = ChatApp("nano", slowly)
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        conversation.prompt.put("/model other")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "loading other" in seen(app), "it is on its way")
        await pilot.press("escape")
        may_load.set()
        await wait_until(pilot, lambda: not app.chat.loader.state, "it is given up")
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        assert conversation.session is session
    app.close()


async def test_a_model_is_chosen_from_the_list() -> None:
    asked = []

    def note(model: str | None, tell: Tell) -> Session:
        asked.append(model)
        return nano()

    app = ChatApp("nano", note)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen), "the list is open")
        await wait_until(pilot, lambda: "to download" in seen(app), "the models are listed")
        assert "on this machine" in seen(app)
        await pilot.press(*"e4b")
        await wait_until(pilot, lambda: "gemma4-e2b:Q4_0" not in seen(app), "some are left out")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(asked) == 2, "it is opened")
        assert asked[1] and asked[1].startswith("gemma4-e4b:")
    app.close()
