"""Snapshots of the whole chat with a fixed session; update them with `--snapshot-update`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from localmtp.errors import LocalmtpError
from localmtp.models.listing import ListedModel
from localmtp.session import Session
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import ReportProgress
from localmtp.tui.screens.models import ModelsScreen
from localmtp.tui.screens.race import RaceScreen
from tests.tui.frozen import FrozenSession
from tests.tui.screen import answered, ready, seen, wait_until

STORY = (
    "George the hedgehog lived under the old oak. **Every evening** he walked to the river, counted"
    " the stars in it, and went home when he had lost count."
)
ROWS = [
    ListedModel("nano", "Q8_0", 6_600_000, "mtp-nano-Q8_0.gguf", True, "2026-11-01", 2048),
    ListedModel("gemma4-e4b:Q4_0", "Q4_0", 5_200_000_000, "mtp.gguf", True, "2026-11-01", 131_072),
    ListedModel("gemma4-12b:Q4_0", "Q4_0", 7_000_000_000, "mtp.gguf", False, "", 65_536),
    ListedModel("gemma4-31b:Q4_0", "Q4_0", 17_600_000_000, "", False, "", 0),
]


class Compare(Protocol):
    def __call__(
        self,
        app: ChatApp,
        terminal_size: tuple[int, int] = (80, 24),
        run_before: Callable[[Pilot[None]], Awaitable[None]] | None = None,
    ) -> bool: ...


def chat(session: Session | None = None, theme: Path | None = None) -> ChatApp:
    def opening(name: str | None, report: ReportProgress) -> Session:
        if session is None:
            raise LocalmtpError("model.gguf is truncated", hint="download or copy it again")
        return session

    return ChatApp("gemma4-e4b", opening, theme_file=theme)


async def asked(pilot: Pilot[None]) -> Any:
    """Asks a question and waits for the whole answer."""
    app = pilot.app
    assert isinstance(app, ChatApp)
    conversation = await ready(pilot, app)
    conversation.prompt.cursor_blink = False
    conversation.send("Tell me about George.")
    await wait_until(pilot, lambda: "lost count" in conversation.transcript.entries[-1].text, "all")
    return conversation


async def opened(pilot: Pilot[None]) -> None:
    """Waits for the empty chat."""
    assert isinstance(pilot.app, ChatApp)
    conversation = await ready(pilot, pilot.app)
    conversation.prompt.cursor_blink = False


def test_empty_chat(snap_compare: Compare) -> None:
    assert snap_compare(chat(FrozenSession()), run_before=opened)


@pytest.mark.parametrize("theme", ["localmtp-dark", "localmtp-light"])
def test_growing_answer_with_a_queued_message(
    snap_compare: Compare, tmp_path: Path, theme: str
) -> None:
    async def writing(pilot: Pilot[None]) -> None:
        conversation = await asked(pilot)
        conversation.send("And his sister?")
        conversation.prompt.put("half a thought")
        await wait_until(pilot, lambda: "1 queued" in seen(pilot.app), "the state is shown")

    (tmp_path / "theme").write_text(theme)
    app = chat(FrozenSession(STORY, holds=True), tmp_path / "theme")
    assert snap_compare(app, terminal_size=(120, 36), run_before=writing)


@pytest.mark.parametrize("size", [(80, 24), (44, 16)])
def test_narrow_screen(snap_compare: Compare, size: tuple[int, int]) -> None:
    async def done(pilot: Pilot[None]) -> None:
        conversation = await asked(pilot)
        await answered(pilot, conversation)

    assert snap_compare(chat(FrozenSession(STORY)), terminal_size=size, run_before=done)


def test_models_screen(snap_compare: Compare) -> None:
    async def listed(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.app.push_screen(ModelsScreen("gemma4-e4b:Q4_0", lambda: ROWS))
        await wait_until(pilot, lambda: "available" in seen(pilot.app), "the list is shown")

    assert snap_compare(chat(FrozenSession()), run_before=listed)


def test_race_screen(snap_compare: Compare) -> None:
    async def over(pilot: Pilot[None]) -> None:
        conversation = await asked(pilot)
        await answered(pilot, conversation)
        conversation.prompt.put("/race Tell me about George.")
        await pilot.press("enter")
        await wait_until(
            pilot,
            lambda: isinstance(pilot.app.screen, RaceScreen) and pilot.app.screen.is_over,
            "the race is over",
        )

    assert snap_compare(chat(FrozenSession(STORY)), terminal_size=(100, 24), run_before=over)


def test_load_failure(snap_compare: Compare) -> None:
    async def failed(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, ChatApp)
        await wait_until(pilot, lambda: app.chat.error is not None, "the failure is known")
        app.chat.conversation.prompt.cursor_blink = False
        await pilot.press(*"precious words", "enter")
        await wait_until(pilot, lambda: "no model is loaded" in seen(app), "it is not sent")

    assert snap_compare(chat(), run_before=failed)


def test_settings_screen(snap_compare: Compare) -> None:
    async def settings(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press("f2")
        for field in pilot.app.screen.query(Input):
            field.cursor_blink = False

    assert snap_compare(chat(FrozenSession()), run_before=settings)
