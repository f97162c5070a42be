"""Switching the model during a conversation."""

from __future__ import annotations

import threading
from contextlib import closing
from functools import partial
from pathlib import Path

from localmtp.engine.pair import LoadOptions
from localmtp.models.embedded import embedded_files
from localmtp.session import Choices, Session
from localmtp.session.local import open_session
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import ReportProgress, local_opener
from localmtp.tui.screens.models import ModelsScreen
from localmtp.tui.widgets.conversation import Conversation
from tests.pairs import TINY, write_pair
from tests.tui.screen import answered, nano, prepared, ready, seen, wait_until


async def test_another_model_continues_the_conversation(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.gguf"
    write_pair(TINY["dense"], tiny, tmp_path / "mtp-tiny.gguf")
    app = ChatApp("nano", local_opener("nano", None, True, prepared))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        nano_session = conversation.session
        assert "nano is a toy" in seen(app)
        conversation.prompt.put("/draft 2")
        await pilot.press("enter", *"one", "enter")
        await answered(pilot, conversation)
        conversation.prompt.put(f"/model {tiny}")
        await pilot.press("enter")
        await wait_until(pilot, lambda: conversation.session is not nano_session, "it is switched")
        session = conversation.session
        assert session and session.name == "tiny.gguf"
        assert session.settings.n_draft == 2
        await pilot.press(*"two", "enter")
        await answered(pilot, conversation, messages=4)
        assert [m.text for m in session.messages][::2] == ["one", "two"]
        assert "tiny.gguf answers from here on" in seen(app)
    app.close()


def _last_entry_contains(conversation: Conversation, text: str) -> bool:
    return text in conversation.transcript.entries[-1].text


async def test_load_failure_keeps_the_old_model(tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_bytes(b"not a model")
    app = ChatApp("nano", local_opener("nano", None, True, prepared))
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
            await wait_until(
                pilot,
                partial(_last_entry_contains, conversation, reason),
                f"the reason is shown: {reason}",
            )
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        assert conversation.session is session
    assert app.chat.error is None
    app.close()


def _with_cache(cache: Path) -> tuple[Choices, LoadOptions]:
    choices = Choices(temperature=0.0, max_tokens=8)
    return choices, LoadOptions(threads=1, context=512, prompt_cache=cache)


async def test_a_damaged_file_of_the_prompt_cache_is_a_line_in_the_chat(tmp_path: Path) -> None:
    question = "Which of these is a number? " + "five, " * 60
    with closing(open_session(embedded_files(), *_with_cache(tmp_path))) as before:
        list(before.ask(question))
    (path,) = tmp_path.glob("*.prompt")
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    app = ChatApp("nano", local_opener("nano", None, True, partial(_with_cache, tmp_path)))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        conversation.prompt.put(question)
        await pilot.press("enter")
        await answered(pilot, conversation)
        await wait_until(pilot, lambda: "is damaged" in seen(app), "the file is named")
        conversation.prompt.put("And?")
        await pilot.press("enter")
        await answered(pilot, conversation, messages=4)
        notices = [e for e in conversation.transcript.entries if "is damaged" in e.text]
        assert len(notices) == 1
    app.close()


async def test_loading_can_be_cancelled() -> None:
    may_load = threading.Event()

    def slowly(model: str | None, report: ReportProgress) -> Session:
        if model != "nano":
            may_load.wait()
            report("loaded")
        return nano()

    app = ChatApp("nano", slowly)
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        conversation.prompt.put("/model other")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "loading other" in seen(app), "it is loading")
        await pilot.press("escape")
        may_load.set()
        await wait_until(pilot, lambda: not app.chat.loader.progress, "it is cancelled")
        await pilot.press(*"one", "enter")
        await answered(pilot, conversation)
        assert conversation.session is session
    app.close()


async def test_choosing_a_model_from_the_list() -> None:
    asked = []

    def note(model: str | None, report: ReportProgress) -> Session:
        asked.append(model)
        return nano()

    app = ChatApp("nano", note)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen), "the list is open")
        await wait_until(pilot, lambda: "available" in seen(app), "the list is shown")
        assert "installed" in seen(app)
        await pilot.press(*"e4b")
        await wait_until(pilot, lambda: "gemma4-e2b:Q4_0" not in seen(app), "some are left out")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(asked) == 2, "it is opened")
        assert asked[1] and asked[1].startswith("gemma4-e4b:")
    app.close()


async def test_a_model_chosen_before_the_first_message_is_introduced(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.gguf"
    write_pair(TINY["dense"], tiny, tmp_path / "mtp-tiny.gguf")
    app = ChatApp("nano", local_opener("nano", None, True, prepared))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await wait_until(pilot, lambda: "nano is a toy" in seen(app), "it is introduced")
        conversation.prompt.put(f"/model {tiny}")
        await pilot.press("enter")
        here = "tiny.gguf answers on this machine"
        await wait_until(pilot, lambda: here in seen(app), "the other is introduced")
        assert "nano is a toy" not in seen(app)
    app.close()
