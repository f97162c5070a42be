"""The chat as a person uses it, on the real `nano`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual import events

from localmtp.engine.events import FinishReason
from localmtp.engine.pair import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.session import Choices, Role, Session
from localmtp.session.local import open_session
from localmtp.tui.app import ChatApp
from localmtp.tui.drawing.entries import AnswerEntry, UserEntry
from localmtp.tui.drawing.text import plural
from localmtp.tui.opening import opener
from tests.tui.screen import answered, chat, nano, prepared, ready, seen, wait_until


async def test_an_answer_is_written_and_counted() -> None:
    app = chat()
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"Hi", "enter")
        await answered(pilot, conversation)
        session = conversation.session
        assert session
        assert [message.role for message in session.messages] == [Role.USER, Role.MODEL]
        entry = conversation.transcript.entries[-1]
        assert isinstance(entry, AnswerEntry)
        assert entry.text == session.messages[-1].text
        assert entry.stats == session.messages[-1].stats
        assert entry.stats
        assert plural(entry.stats.completion_tokens, "token") in seen(app)
        assert "tok/s" in seen(app)
        assert session.memory["target"] > session.memory["drafter"] > 0
        assert all(name in seen(app) for name in session.memory)
        assert conversation.prompt.text == ""


async def test_one_can_write_before_the_model_is_loaded() -> None:
    may_load = threading.Event()

    def slowly() -> Session:
        may_load.wait()
        return nano()

    app = chat(slowly)
    async with app.run_test() as pilot:
        await pilot.press(*"Early", "enter")
        await wait_until(pilot, lambda: "waits its turn" in seen(app), "the message waits")
        assert "loading nano" in seen(app)
        may_load.set()
        conversation = await ready(pilot, app)
        await answered(pilot, conversation)
        assert conversation.session and conversation.session.messages[0].text == "Early"


async def test_messages_sent_while_an_answer_is_written_wait_their_turn() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"one", "enter", *"two", "enter", *"three", "enter")
        await answered(pilot, conversation, messages=6)
        assert conversation.session
        asked = [m.text for m in conversation.session.messages if m.role is Role.USER]
        assert asked == ["one", "two", "three"]
        kinds = [type(entry) for entry in conversation.transcript.entries]
        assert kinds == [UserEntry, AnswerEntry] * 3


async def test_a_waiting_message_can_be_taken_back() -> None:
    may_load = threading.Event()

    def slowly() -> Session:
        may_load.wait()
        return nano()

    app = chat(slowly)
    async with app.run_test() as pilot:
        conversation = app.chat.conversation
        await pilot.press(*"one", "enter", *"two", "enter", "up")
        assert conversation.prompt.text == "two"
        may_load.set()
        await ready(pilot, app)
        await answered(pilot, conversation)
        assert conversation.session and len(conversation.session.messages) == 2


async def test_stopping_keeps_what_was_written() -> None:
    # So hot that the turn hardly ends by itself, and slow with long drafts over all entries.
    app = chat(lambda: nano(Choices(temperature=10.0, top_k=0, top_p=1.0, n_draft=16)))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session

        def stopped() -> bool:
            # At once: a pilot's key waits for a quiet moment, and the turn may end before.
            if begun := len(session.messages) > 1:
                app.simulate_key("escape")
            return begun

        for _ in range(8):  # even so, a turn may end before the key arrives
            await pilot.press(*"/new", "enter")
            await wait_until(pilot, lambda: not session.messages, "a new conversation")
            conversation.prompt.put("Write a long story about George the hedgehog.")
            await pilot.press("enter")
            conversation.prompt.put("typed meanwhile")
            await wait_until(pilot, stopped, "an answer")
            await answered(pilot, conversation)
            if session.messages[-1].finish is FinishReason.CANCELLED:
                break
        assert session.messages[-1].finish is FinishReason.CANCELLED
        # Control characters are shown as others.
        assert len(session.messages[-1].text) == len(conversation.transcript.entries[-1].text) > 0
        assert "stopped" in seen(app)
        assert conversation.prompt.text == "typed meanwhile"


async def test_a_prompt_of_several_lines() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"one", "ctrl+j", *"two", "shift+enter", *"three")
        app.post_message(events.Paste(" four\r\nfive\rsix"))
        await pilot.pause()
        lines = "one\ntwo\nthree four\nfive\nsix"
        assert conversation.prompt.text == lines
        await pilot.press("enter")
        await answered(pilot, conversation)
        assert conversation.session and conversation.session.messages[0].text == lines


async def test_up_brings_back_what_was_sent_and_down_what_was_being_written() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        prompt = conversation.prompt
        await pilot.press(*"one", "enter", *"two", "enter")
        await answered(pilot, conversation, messages=4)
        await pilot.press("d", "r", "up")
        assert prompt.text == "two"
        await pilot.press("up", "up")
        assert prompt.text == "one"
        await pilot.press("down", "down")
        assert prompt.text == "dr"


async def test_a_prompt_that_does_not_fit_comes_back() -> None:
    def small() -> Session:
        files = resolve("nano", offline=True)
        return open_session(files, Choices(max_tokens=8), LoadOptions(context=256, threads=1))

    app = chat(small)
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"first", "enter")
        await answered(pilot, conversation)
        conversation.prompt.put("much too long " * 300)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "and the context" in seen(app), "the reason is shown")
        assert conversation.prompt.text.startswith("much too long")
        assert conversation.session and len(conversation.session.messages) == 2


async def test_a_model_that_cannot_be_loaded_is_one_line_and_the_text_stays(tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_bytes(b"this is no model")
    app = ChatApp(str(tmp_path / "not.gguf"), opener(None, None, True, prepared))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"precious words", "enter")
        await wait_until(pilot, lambda: app.chat.failure is not None, "the failure is known")
        assert isinstance(app.chat.failure, LocalmtpError)
        assert "not.gguf" in seen(app)
        assert app.chat.conversation.prompt.text == "precious words"
        await pilot.press("enter")
        assert app.chat.conversation.prompt.text == "precious words"


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (44, 16)])
async def test_it_always_says_whether_drafting_is_on(size: tuple[int, int]) -> None:
    app = chat(lambda: nano(drafter="none"))
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await wait_until(pilot, lambda: "off: --drafter none" in seen(app), "the reason is shown")


async def test_typing_while_a_message_is_selected_goes_into_the_prompt() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"Hi", "enter")
        await answered(pilot, conversation)
        await pilot.press("alt+up")
        assert conversation.transcript.cursor == 1
        await pilot.press("alt+up")
        assert conversation.transcript.cursor == 0
        await pilot.press("W")
        assert conversation.prompt.text == "W"
        assert conversation.prompt.has_focus
