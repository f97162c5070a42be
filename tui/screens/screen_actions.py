"""Actions of the chat that open other screens."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from localmtp.errors import LocalmtpError
from localmtp.tui.export_files import listing, overwritten, written
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.code_block import load_lexers
from localmtp.tui.rendering.entries import UserEntry
from localmtp.tui.screens.confirm import ConfirmScreen
from localmtp.tui.screens.help import HelpScreen
from localmtp.tui.screens.history import HistoryScreen
from localmtp.tui.screens.models import ModelsScreen, available_rows
from localmtp.tui.screens.race import RaceScreen
from localmtp.tui.screens.rounds import RoundsScreen
from localmtp.tui.screens.settings import SettingsScreen
from localmtp.tui.screens.transcript_actions import TranscriptActions
from localmtp.tui.widgets.statistics import Statistics

if TYPE_CHECKING:
    from localmtp.session import Session


SETTINGS_DELAY_S = 1 / 4
"""Time for the model's process to report whether drafting is on with new settings."""


class ScreenActions(TranscriptActions):
    """Opens the other screens and applies their results; a base of the chat screen.

    Args:
        brush: for the colours.
    """

    def __init__(self, brush: Brush) -> None:
        super().__init__()
        self._brush = brush

    @property
    def session(self) -> Session | None:
        """Returns the session that answers; None while the first model is loading."""
        return self.conversation.session

    @abstractmethod
    def switch_model(self, model: str) -> None:
        """Loads another model, which answers from the next message on."""

    @abstractmethod
    def show_state(self) -> None:
        """Updates statistics, top bar and status line."""

    @work
    async def write_files(self, files: Mapping[Path, bytes]) -> None:
        """Writes files and reports their paths; asks before overwriting others."""
        files = {path.absolute(): data for path, data in files.items()}
        existing = await asyncio.to_thread(overwritten, files)
        question = f"Overwrite {listing(existing)}?"
        if existing and not await self.app.push_screen_wait(ConfirmScreen(question, "Overwrite")):
            self.note("nothing was written")
            return
        try:
            await asyncio.to_thread(written, files)
        except LocalmtpError as error:
            self.show_error(error)
        else:
            self.conversation.notice(f"written: {listing(list(files))}")

    def race(self, prompt: str) -> None:
        """Answers a prompt, with what is attached, with drafting off and on, on its own screen.

        Raises:
            LocalmtpError: the session cannot draft.
        """
        session = self.session
        if session and not session.drafter_name and session.drafting.startswith("off"):
            raise LocalmtpError(f"nothing to compare: drafting {session.drafting}")
        if self.conversation.tray.is_reading:
            self.note("wait until the attachment is read")
        elif session := self.conversation.lend_session():
            question = UserEntry(prompt, self.conversation.tray.attachments)
            self.app.push_screen(RaceScreen(session, question, self._brush), self._end_race)
        else:
            self.note("wait for the answer first")

    def _end_race(self, plain_tokens_per_s: float | None) -> None:
        self.conversation.return_session()
        self.query_one(Statistics).compare(plain_tokens_per_s or 0.0)

    def open_rounds(self, answer: AnswerEntry) -> None:
        """Shows the rounds of an answer."""
        self.app.push_screen(RoundsScreen(answer.rounds, self._brush))

    def show_text(self, text: str) -> None:
        """Shows a text of several lines."""
        self.conversation.notice(text)

    @work
    async def show_prompt(self, session: Session) -> None:
        """Shows the rendered prompt; rendered in a thread, since templates may be slow."""
        try:
            self.conversation.notice(await asyncio.to_thread(session.prompt))
        except LocalmtpError as error:
            self.show_error(error)

    @work
    async def action_history(self, words: str = "") -> None:
        """Opens one of the saved conversations, chosen by the user."""
        history = self.conversation.saver.history
        if history is None:
            self.note("conversations are not being saved")
            return
        current = self.conversation.saver.conversation_id
        chosen = await self.app.push_screen_wait(HistoryScreen(history, words, current))
        if chosen is None or chosen == current:
            return
        try:
            messages, settings = await asyncio.to_thread(history.resume, chosen)
        except LocalmtpError as error:
            self.show_error(error)
            return
        await asyncio.to_thread(load_lexers, "\n".join(m.text for m in messages))
        if not self.conversation.show_conversation(messages, chosen, settings):
            self.note("stop the answer first")

    @work
    async def action_models(self) -> None:
        """Loads the model chosen by the user."""
        session = self.session
        current = session.name if session else ""
        chosen = await self.app.push_screen_wait(ModelsScreen(current, available_rows))
        if chosen and (chosen != current or (session and session.is_lost)):
            self.switch_model(chosen)

    @work
    async def action_settings(self) -> None:
        """Lets the user change the settings."""
        session = self.session
        if session is None:
            self.note("no model is loaded yet")
        elif settings := await self.app.push_screen_wait(SettingsScreen(session)):
            session.update_settings(settings)
            self.note("changed, from the next message")
            self.check_tools()
            self.set_timer(SETTINGS_DELAY_S, self.show_state)

    @work(exclusive=True, group="tools")
    async def check_tools(self) -> None:
        """Reports a model that cannot call the tools, because its template describes none."""
        session = self.session
        if not self.conversation.tool_use or not session:
            return
        try:
            # A server may have to be asked.
            knows = await asyncio.to_thread(lambda: session.knows_tools)
        except LocalmtpError:
            # The next answer reports the template that cannot be read.
            return
        if knows is False and session is self.session:
            self.conversation.notice(
                f"{session.name} cannot call tools: its chat template does not describe any",
                "answers use no tools; choose another model, or "
                + (
                    "`/set template FILE`"
                    if session.template
                    else "start the server with another template"
                ),
                error=True,
            )

    def action_help(self) -> None:
        """Shows keys and commands."""
        self.app.push_screen(HelpScreen())

    def show_error(self, error: LocalmtpError) -> None:
        """Shows an error with its hint in the transcript."""
        self.conversation.notice(error.message, error.hint, error=True)
