"""The chat with the real `nano`: sending, queueing, stopping, history of the prompt."""

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
from localmtp.tui.model_loading import local_opener
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.entries import UserEntry
from localmtp.tui.rendering.formatting import count
from tests.tui.screen import answered, chat, nano, prepared, ready, seen, wait_until


async def test_answer_and_statistics_are_shown() -> None:
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
        assert count(entry.stats.completion_tokens, "token") in seen(app)
        assert "tok/s" in seen(app)
        assert session.memory["target"] > session.memory["drafter"] > 0
        assert all(name in seen(app) for name in session.memory)
        assert conversation.prompt.text == ""


async def test_copies_of_a_text_without_repeats_say_so() -> None:
    choices = Choices(temperature=0.0, max_tokens=6, n_draft=2)
    app = chat(lambda: nano(choices, drafter="lookup"))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"Hi", "enter")
        await answered(pilot, conversation)
        stats = conversation.transcript.entries[-1]
        assert isinstance(stats, AnswerEntry) and stats.stats and not stats.stats.drafted
        # Under the answer, and in the panel.
        assert seen(app).count("no repeats to copy yet") == 2
    app.close()


async def test_messages_sent_while_loading_are_queued() -> None:
    may_load = threading.Event()

    def slowly() -> Session:
        may_load.wait()
        return nano()

    app = chat(slowly)
    async with app.run_test() as pilot:
        await pilot.press(*"Early", "enter")
        await wait_until(pilot, lambda: "queued" in seen(app), "the message is queued")
        assert "loading nano" in seen(app)
        may_load.set()
        conversation = await ready(pilot, app)
        await answered(pilot, conversation)
        assert conversation.session and conversation.session.messages[0].text == "Early"


async def test_messages_sent_while_answering_are_queued() -> None:
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


async def test_up_takes_a_queued_message_back() -> None:
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


async def test_stopping_keeps_the_partial_answer() -> None:
    # At this temperature a turn hardly ends by itself; long drafts slow it down.
    app = chat(lambda: nano(Choices(temperature=10.0, top_k=0, top_p=1.0, n_draft=16)))
    async with app.run_test(size=(120, 36)) as pilot:
        conversation = await ready(pilot, app)
        session = conversation.session
        assert session

        def stopped() -> bool:
            # Immediately: the pilot waits for an idle moment, and the turn may end before that.
            if begun := len(session.messages) > 1:
                app.simulate_key("escape")
            return begun

        for _ in range(8):  # a turn may still end before the key arrives
            await pilot.press(*"/new", "enter")
            await wait_until(pilot, lambda: not session.messages, "a new conversation")
            conversation.prompt.put("Write a long story about George the hedgehog.")
            await pilot.press("enter")
            conversation.prompt.put("typed during the answer")
            await wait_until(pilot, stopped, "an answer")
            await answered(pilot, conversation)
            if session.messages[-1].finish is FinishReason.CANCELLED:
                break
        assert session.messages[-1].finish is FinishReason.CANCELLED
        # Control characters are replaced one by one.
        assert len(session.messages[-1].text) == len(conversation.transcript.entries[-1].text) > 0
        assert "stopped" in seen(app)
        assert conversation.prompt.text == "typed during the answer"


async def test_multi_line_prompt() -> None:
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


async def test_up_recalls_sent_messages_and_down_the_draft() -> None:
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


async def test_a_prompt_that_does_not_fit_is_returned() -> None:
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


async def test_load_failure_is_shown_and_the_text_is_kept(tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_bytes(b"not a model")
    app = ChatApp(str(tmp_path / "not.gguf"), local_opener(None, None, True, prepared))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"precious words", "enter")
        await wait_until(pilot, lambda: app.chat.error is not None, "the failure is known")
        assert isinstance(app.chat.error, LocalmtpError)
        assert "not.gguf" in seen(app)
        assert app.chat.conversation.prompt.text == "precious words"
        await pilot.press("enter")
        assert app.chat.conversation.prompt.text == "precious words"


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (44, 16)])
async def test_drafting_state_is_shown_at_every_size(size: tuple[int, int]) -> None:
    app = chat(lambda: nano(drafter="none"))
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await wait_until(pilot, lambda: "off: --drafter none" in seen(app), "the reason is shown")


async def test_typing_on_a_selected_message_goes_to_the_prompt() -> None:
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
