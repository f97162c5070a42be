"""Shared helpers of the chat tests: waiting, and reading the screen."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from textual.app import App
from textual.pilot import Pilot

from localmtp.engine.pair import LoadOptions
from localmtp.session import Choices, Session
from localmtp.session.local import open_session
from localmtp.tui.app import ChatApp
from localmtp.tui.widgets.conversation import Conversation

PATIENCE_S = 60.0
"""Only failing tests wait this long; a busy machine may need much of it."""


async def wait_until(pilot: Pilot[None], reached: Callable[[], bool], what: str) -> None:
    """Lets the application run until a condition holds."""
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        await asyncio.sleep(0.02)
        if reached():
            await pilot.pause()
            return
    raise AssertionError(f"timed out: {what}\n{seen(pilot.app)}")


def seen(app: App[None]) -> str:
    """Returns the text on the screen, a line for each run of one style."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", app.export_screenshot())
    return html.unescape("\n".join(texts)).replace("\N{NO-BREAK SPACE}", " ")


def prepared() -> tuple[Choices, LoadOptions]:
    """Greedy and short, on one thread: tests run concurrently."""
    return Choices(temperature=0.0, max_tokens=12), LoadOptions(threads=1)


def drafting() -> tuple[Choices, LoadOptions]:
    """The same with drafts of two tokens: pacing may have found that they do not pay."""
    choices, options = prepared()
    return replace(choices, n_draft=2), options


def nano(choices: Choices | None = None, drafter: str | None = None) -> Session:
    """Opens the embedded pair; greedy and short by default."""
    from localmtp.models import resolve

    files = resolve("nano", drafter=drafter, offline=True)
    usual, options = prepared()
    return open_session(files, choices or usual, options)


def chat(open_it: Callable[[], Session] = nano) -> ChatApp:
    """Returns the chat with a session of its own."""
    return ChatApp("nano", lambda name, report: open_it())


async def ready(pilot: Pilot[None], app: ChatApp) -> Conversation:
    """Waits for the model and returns the conversation."""
    await wait_until(pilot, lambda: app.chat.is_mounted, "the chat is open")
    conversation = app.chat.conversation
    await wait_until(pilot, lambda: conversation.session is not None, "the model is loaded")
    return conversation


async def answered(pilot: Pilot[None], conversation: Conversation, messages: int = 2) -> None:
    """Waits until the conversation has the given number of messages and no answer is written."""
    session = conversation.session
    assert session
    await wait_until(
        pilot,
        lambda: len(session.messages) >= messages and conversation.answer is None,
        f"{messages} messages and no answer being written",
    )
