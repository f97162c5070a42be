"""Draws the README's pictures of the chat: `python -m localmtp.bench.lab.chat.picture`.

The pair is nano widened to 120 MB, so that passes are bound by memory as a larger model's are, with
noise in the drafter, so that some drafts are rejected (`localmtp.bench.lab.pacing.variants`).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from tempfile import TemporaryDirectory

from localmtp.bench.lab.checkout import ROOT
from localmtp.bench.lab.pacing import variants
from localmtp.engine.pair import LoadOptions
from localmtp.models import ModelFiles, resolve
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
VARIANT = ("--megabytes", "120", "--noise", "0.3")
IMAGES = ROOT / "docs" / "images"


async def draw(files: ModelFiles) -> None:
    """Draws one conversation in every theme, with the tokens of its first answer coloured."""
    choices, options = Choices(temperature=0.0, max_tokens=400), LoadOptions(threads=1)
    app = ChatApp(files.name, lambda name, tell: open_session(files, choices, options))
    async with app.run_test(size=(120, 49)) as pilot:
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
        for theme in PALETTES:
            app.theme = theme
            await pilot.pause(0.5)
            _save(theme, app.export_screenshot(title="localmtp chat"))
    app.close()


def _save(theme: str, svg: str) -> None:
    # Fonts of the system: a picture loads nothing from other hosts.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    (IMAGES / f"chat-{theme.removeprefix('localmtp-')}.svg").write_text(svg, encoding="utf-8")


def _answered(app: ChatApp, messages: int) -> bool:
    session = app.chat.conversation.session
    return (
        session is not None
        and len(session.messages) == messages
        and app.chat.conversation.answer is None
    )


def main() -> None:
    """Makes the pair and draws it."""
    with TemporaryDirectory() as folder:
        variants.main([folder, *VARIANT])
        files = resolve(f"{folder}/nano-Q8_0.gguf", offline=True)
        asyncio.run(draw(replace(files, name="nano-120mb")))


if __name__ == "__main__":
    main()
