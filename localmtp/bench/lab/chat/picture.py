"""Draws the README's pictures of the chat: `python -m localmtp.bench.lab.chat.picture`."""

from __future__ import annotations

import asyncio

from localmtp.bench.lab.checkout import ROOT
from localmtp.engine.pair import LoadOptions
from localmtp.models import resolve
from localmtp.session import Choices
from localmtp.session.local import open_session
from localmtp.tui.app import ChatApp
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.themes import PALETTES

QUESTIONS = (
    "What is MTP?",
    "Write a Python function that computes the greatest common divisor.",
    "What can you do?",
)
IMAGES = ROOT / "docs" / "images"


async def picture(theme: str) -> None:
    """One conversation with nano, the tokens of its first answer coloured."""
    choices, options = Choices(temperature=0.0, max_tokens=400), LoadOptions(threads=1)
    files = resolve("nano", offline=True)
    app = ChatApp("nano", lambda name, tell: open_session(files, choices, options))
    async with app.run_test(size=(120, 46)) as pilot:
        app.theme = theme
        conversation = app.chat.conversation
        for number, question in enumerate(QUESTIONS, 1):
            conversation.send(question)
            while not _answered(app, 2 * number):
                if not app.is_running:
                    raise SystemExit("interrupted")
                await asyncio.sleep(0.1)
        answers = [e for e in conversation.transcript.entries if isinstance(e, AnswerEntry)]
        answers[0].coloured = True
        answers[0].touch()
        conversation.transcript.changed()
        await pilot.pause(0.5)
        svg = app.export_screenshot(title="localmtp chat")
    app.close()
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"chat-{theme.removeprefix('localmtp-')}.svg").write_text(svg, encoding="utf-8")


def _answered(app: ChatApp, messages: int) -> bool:
    session = app.chat.conversation.session
    return (
        session is not None
        and len(session.messages) == messages
        and app.chat.conversation.answer is None
    )


if __name__ == "__main__":
    for name in PALETTES:
        asyncio.run(picture(name))
