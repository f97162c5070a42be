"""The Textual application: themes, startup and shutdown."""

from __future__ import annotations

import sys
from asyncio import get_running_loop
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from textual import events
from textual.app import App, SuspendNotSupported, SystemCommand
from textual.screen import Screen

from localmtp.errors import LocalmtpError
from localmtp.portability import hang_up_check, on_termination
from localmtp.tui.commands.actions import CHAT_ACTIONS
from localmtp.tui.idle_gc import IdleCollector
from localmtp.tui.media.attachment import Attachment, all_described
from localmtp.tui.model_loading import OpenSession
from localmtp.tui.preferences import load_preference, save_preference
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.screens.chat import ChatScreen, OpenedHistory
from localmtp.tui.terminal_output import tolerant
from localmtp.tui.themes import PALETTES, theme

if TYPE_CHECKING:
    from textual.driver import Driver

    from localmtp.history import History
    from localmtp.tui.tool_use import ToolUse
    from localmtp.tui.widgets.attachment_tray import PictureWidget

COLLECT_EVERY_S = 5.0
"""Between checks for an idle moment to collect garbage in."""

CHECK_TERMINAL_EVERY_S = 1.0


class ChatApp(App[None]):
    """Runs the chat; opens the model in the background.

    Args:
        model: its name as given by the user; None for the default model.
        open_session: loads models, in threads.
        history: file of the saved conversations; None to save none.
        theme_file: file with the theme's name; None to start with the dark theme.
        previews_file: file with `off` if images are not previewed; None to preview them.
        picture_widget: draws previews of attached images; None for half blocks.
        tool_use: runs the tools that answers call; None for no tools.
    """

    CSS_PATH = "app.tcss"
    TITLE = "localmtp"
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        model: str | None,
        open_session: OpenSession,
        history: Path | None = None,
        theme_file: Path | None = None,
        previews_file: Path | None = None,
        picture_widget: PictureWidget | None = None,
        tool_use: ToolUse | None = None,
    ) -> None:
        super().__init__()
        for name in PALETTES:
            self.register_theme(theme(name))
        self._theme_file = theme_file
        saved_theme = load_preference(theme_file) if theme_file else ""
        self.theme = saved_theme if saved_theme in PALETTES else "localmtp-dark"
        self._previews_file = previews_file
        self._previews = not previews_file or load_preference(previews_file) != "off"
        self.history: History | None = None
        self._collector = IdleCollector()
        self._early_input: list[events.Key | events.Paste] | None = []
        """Input before the first frame; None afterwards."""
        open_history = partial(self._open_history, history) if history else None
        self.chat = ChatScreen(
            model, open_session, open_history, self._brush(), picture_widget, tool_use
        )

    def get_driver_class(self) -> type[Driver]:
        """Returns a driver that survives the closing of the terminal."""
        return tolerant(super().get_driver_class())

    def get_default_screen(self) -> ChatScreen:
        """Returns the chat screen."""
        return self.chat

    def on_mount(self) -> None:
        """Installs signal handlers and timers."""
        self.theme_changed_signal.subscribe(self, lambda _: self.chat.repaint(self._brush()))
        on_termination(get_running_loop(), self.leave)
        self._collector.start()
        self.set_interval(COLLECT_EVERY_S, self._collect_if_idle)
        if not self.is_headless and sys.__stdin__ and sys.__stdin__.isatty():
            is_gone = hang_up_check(sys.__stdin__)
            if is_gone:
                self.set_interval(CHECK_TERMINAL_EVERY_S, partial(self._check_terminal, is_gone))

    async def on_event(self, event: events.Event) -> None:
        """Holds input back until the first frame is shown."""
        if self._early_input is not None and isinstance(event, events.Key | events.Paste):
            self._early_input.append(event)
        else:
            await super().on_event(event)

    def on_ready(self) -> None:
        """Passes on what was typed before the first frame."""
        if self.focused is None:
            # The terminal lost the focus meanwhile, and Textual set none.
            self.chat.conversation.prompt.focus()
        early, self._early_input = self._early_input, None
        for event in early or ():
            self.post_message(event)

    def on_unmount(self) -> None:
        """Restores garbage collection: the process may continue without the chat."""
        self._collector.stop()

    def on_key(self) -> None:
        """Counts a key as activity."""
        self._collector.mark_active()

    def action_theme(self) -> None:
        """Switches between the dark and the light theme."""
        names = list(PALETTES)
        self.theme = names[self.theme == names[0]]
        if self._theme_file:
            save_preference(self._theme_file, self.theme)

    def action_previews(self, shown: bool) -> None:
        """Shows or hides previews of images."""
        self._previews = shown
        self.chat.repaint(self._brush())
        if self._previews_file:
            save_preference(self._previews_file, "on" if shown else "off")

    def action_edit(self) -> None:
        """Opens the prompt in the user's editor; the answer continues meanwhile."""
        prompt = self.chat.conversation.prompt
        text, problem = prompt.text, ""
        try:
            with self.suspend():
                # An exception inside `suspend` would leave the terminal suspended.
                try:
                    text = click.edit(text, extension=".md", require_save=False) or ""
                except (click.ClickException, OSError, ValueError) as error:
                    problem = str(error)
        except SuspendNotSupported:
            self.chat.note("the editor needs a terminal of its own")
            return
        if problem:
            hint = "set $VISUAL or $EDITOR to an installed editor"
            self.chat.conversation.notice(f"cannot open the editor: {problem}", hint, error=True)
        else:
            prompt.put(text.rstrip("\n"))

    async def action_quit(self) -> None:
        """Leaves the chat."""
        self.leave()

    def leave(self) -> None:
        """Leaves the chat: cancels the answer, and saves it and the text that was not sent."""
        self.chat.conversation.stop()
        if session := self.chat.conversation.session:
            session.abandon()
        text, media = self.chat.conversation.unsent()
        if self.history and (text or media):
            with suppress(LocalmtpError):
                # The history has already reported that it cannot write.
                self.history.save_unsent(text, media)
        self.exit()

    def close(self) -> None:
        """Frees the models and closes the history; call after the application has ended."""
        self.chat.loader.close()
        if self.history:
            self.history.close()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yields the actions of the table for the command palette."""
        for action in CHAT_ACTIONS:
            yield SystemCommand(action.label, action.help, partial(self._run_action, action.name))

    async def _run_action(self, name: str) -> None:
        await self.chat.run_action(name)

    def _collect_if_idle(self) -> None:
        chat = self.chat
        if chat.conversation.answer or chat.loader.progress or self.screen is not chat:
            self._collector.mark_active()
        self._collector.collect_if_idle()

    def _check_terminal(self, is_gone: Callable[[], bool]) -> None:
        """Leaves when the terminal is gone: only a controlling terminal sends a signal."""
        if is_gone():
            self.leave()

    def _open_history(self, path: Path) -> OpenedHistory:
        from localmtp.history import History

        self.history = History(path)
        media = self.history.take_unsent_media()
        attached = all_described([Attachment(each) for each in media])
        return OpenedHistory(self.history, self.history.take_unsent(), attached)

    def _brush(self) -> Brush:
        palette = PALETTES.get(self.theme, PALETTES["localmtp-dark"])
        return Brush(palette, monochrome=self.no_color, previews=self._previews)
