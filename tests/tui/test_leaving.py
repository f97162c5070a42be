"""Leaving the chat in the ways that other programs have taught."""

from __future__ import annotations

import pytest

from tests.tui.screen import chat, ready, wait_until


@pytest.mark.parametrize("word", ["exit", "quit", "/exit", "/bye"])
async def test_words_that_leave_the_chat(word: str) -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        conversation.prompt.put(word)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app._exit, "the chat ends")
        assert conversation.session and conversation.session.messages == []


async def test_ctrl_d_leaves_only_from_an_empty_prompt() -> None:
    app = chat()
    async with app.run_test() as pilot:
        conversation = await ready(pilot, app)
        await pilot.press("a", "b", "home", "ctrl+d")
        assert conversation.prompt.text == "b"
        await pilot.press("delete", "ctrl+d")
        await wait_until(pilot, lambda: app._exit, "the chat ends")
