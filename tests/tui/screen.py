"""What the tests of the chat share: waiting, and reading the screen."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable
from time import monotonic

from textual.app import App
from textual.pilot import Pilot

from localmtp.engine.pair import LoadOptions
from localmtp.session import Choices, Session
from localmtp.session.local import open_session
from localmtp.tui.app import ChatApp
from localmtp.tui.widgets.conversation import Conversation

PATIENCE_S = 60.0
"""Only a test that fails takes this long; a busy machine may need much of it."""


async def wait_until(pilot: Pilot[None], reached: Callable[[], bool], what: str) -> None:
    """Lets the application run until something is so."""
    give_up = monotonic() + PATIENCE_S
    while monotonic() < give_up:
        await asyncio.sleep(0.02)
        if reached():
            await pilot.pause()
            return
    raise AssertionError(f"never happened: {what}\n{seen(pilot.app)}")


def seen(app: App[None]) -> str:
    """The text on the screen, a line for each run of one style."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", app.export_screenshot())
    return html.unescape("\n".join(texts)).replace("\N{NO-BREAK SPACE}", " ")


def prepared() -> tuple[Choices, LoadOptions]:
    """Greedy and brief, on one thread: two would wait for each other beside other tests."""
    return Choices(temperature=0.0, max_tokens=12), LoadOptions(threads=1)


def nano(choices: Choices | None = None, drafter: str | None = None) -> Session:
    """The embedded pair; greedy and brief unless asked otherwise."""
    from localmtp.models import resolve

    files = resolve("nano", drafter=drafter, offline=True)
    usual, options = prepared()
    return open_session(files, choices or usual, options)


def chat(open_it: Callable[[], Session] = nano) -> ChatApp:
    """The chat on a session."""
    return ChatApp("nano", lambda name, tell: open_it())


async def ready(pilot: Pilot[None], app: ChatApp) -> Conversation:
    """The conversation, once the model is loaded."""
    await wait_until(pilot, lambda: app.chat.is_mounted, "the chat is open")
    conversation = app.chat.conversation
    await wait_until(pilot, lambda: conversation.session is not None, "the model is loaded")
    return conversation


async def answered(pilot: Pilot[None], conversation: Conversation, messages: int = 2) -> None:
    """Waits until so many messages stand and nothing is being written."""
    session = conversation.session
    assert session
    await wait_until(
        pilot,
        lambda: len(session.messages) >= messages and conversation.answer is None,
        f"{messages} messages and no answer being written",
    )
