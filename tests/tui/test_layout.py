"""Layout: small terminals, and names that are too long or contain control characters."""

from __future__ import annotations

import pytest

from localmtp.tui.app import ChatApp
from tests.tui.frozen import MARKDOWN, FrozenSession
from tests.tui.screen import answered, ready, seen, wait_until

KEYS = ("f3", "f4", "escape", "f2", "escape", "f1", "escape", "ctrl+s", "alt+up", "escape")


@pytest.mark.parametrize("width", [1, 12, 36, 41, 60, 80])
async def test_every_screen_opens_at_every_width(width: int) -> None:
    app = ChatApp("gemma4-e4b", lambda name, report: FrozenSession(MARKDOWN))
    async with app.run_test(size=(width, 14)) as pilot:
        conversation = await ready(pilot, app)
        conversation.send("a question")
        await answered(pilot, conversation)
        await pilot.press(*KEYS)
        conversation.prompt.put("/")
        await pilot.pause()
        assert app.is_running


@pytest.mark.parametrize("width", [40, 60, 80, 120])
async def test_the_names_of_model_and_state_do_not_collide(width: int) -> None:
    app = ChatApp("gemma4-e4b", lambda name, report: FrozenSession("word " * 40, holds=True))
    async with app.run_test(size=(width, 20)) as pilot:
        conversation = await ready(pilot, app)
        conversation.send("a question")
        await wait_until(pilot, lambda: "writing · 214 tokens" in seen(app), "the whole state")
        assert "gemma4-e4b:Q4_0" in seen(app)
        assert "drafting on" in seen(app)
        conversation.stop()
        await answered(pilot, conversation)


async def test_escape_sequences_in_names_do_not_reach_the_terminal() -> None:
    session = FrozenSession(MARKDOWN)
    evil = "evil\x1b]0;title\x07\x9b2J"
    session.name = session.drafter_name = session.device = session.place = evil
    app = ChatApp(evil, lambda name, report: session)
    async with app.run_test(size=(140, 40)) as pilot:
        await ready(pilot, app)
        strips = app.screen._compositor.render_strips()
        text = "".join(segment.text for strip in strips for segment in strip)
        assert "evil␛]0;title␇" in text
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
