"""The application around the chat: themes, and the way in and out."""

from __future__ import annotations

import sys
from asyncio import get_running_loop
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from textual.app import App, SuspendNotSupported, SystemCommand
from textual.screen import Screen

from localmtp.errors import LocalmtpError
from localmtp.portability import hang_up_check, on_termination
from localmtp.tui.commands.actions import CHAT_ACTIONS
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.gc_pause import Garbage
from localmtp.tui.opening import Opener
from localmtp.tui.preferences import remember_theme, remembered_theme
from localmtp.tui.screens.chat import ChatScreen
from localmtp.tui.themes import PALETTES, theme

if TYPE_CHECKING:
    from localmtp.history import History

LOOK_EVERY_S = 5.0
"""For garbage."""

WATCH_EVERY_S = 1.0
"""Whether the terminal is still there."""


class ChatApp(App[None]):
    """Shows the chat; opens the model in the background.

    Args:
        model: its name, as the user gave it; None for the default one.
        opener: loads models, in threads.
        history: where conversations are saved; None to save none.
        theme_kept_in: where the theme is remembered; None to begin with the dark one.
    """

    CSS_PATH = "app.tcss"
    TITLE = "localmtp"
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        model: str | None,
        opener: Opener,
        history: Path | None = None,
        theme_kept_in: Path | None = None,
    ) -> None:
        super().__init__()
        for name in PALETTES:
            self.register_theme(theme(name))
        self._theme_kept_in = theme_kept_in
        remembered = remembered_theme(theme_kept_in) if theme_kept_in else ""
        self.theme = remembered if remembered in PALETTES else "localmtp-dark"
        self.history: History | None = None
        self._garbage = Garbage()
        open_history = partial(self._open_history, history) if history else None
        self.chat = ChatScreen(model, opener, open_history, self._brush())

    def get_default_screen(self) -> ChatScreen:
        """The chat."""
        return self.chat

    def on_mount(self) -> None:
        """Leaves in order also when the terminal goes away or the process is told to end."""
        self.theme_changed_signal.subscribe(self, lambda _: self.chat.repaint(self._brush()))
        on_termination(get_running_loop(), self.leave)
        self._garbage.tame()
        self.set_interval(LOOK_EVERY_S, self._look_for_garbage)
        if not self.is_headless and sys.__stdin__ and sys.__stdin__.isatty():
            is_gone = hang_up_check(sys.__stdin__)
            if is_gone:
                self.set_interval(WATCH_EVERY_S, partial(self._look_for_terminal, is_gone))

    def on_unmount(self) -> None:
        """The process may go on without the chat."""
        self._garbage.release()

    def on_key(self) -> None:
        """The user is here."""
        self._garbage.moved()

    def action_theme(self) -> None:
        """Dark to light and back."""
        names = list(PALETTES)
        self.theme = names[self.theme == names[0]]
        if self._theme_kept_in:
            remember_theme(self._theme_kept_in, self.theme)

    def action_edit(self) -> None:
        """Opens the prompt in the user's editor; answers go on being written meanwhile."""
        prompt = self.chat.conversation.prompt
        try:
            with self.suspend():
                text = click.edit(prompt.text, extension=".md", require_save=False)
        except SuspendNotSupported:
            self.chat.note("the editor needs a terminal of its own")
        except click.ClickException as error:
            self.chat.conversation.say(error.message, "$EDITOR names the editor", error=True)
        else:
            prompt.put((text or "").rstrip("\n"))

    async def action_quit(self) -> None:
        """Leaves."""
        self.leave()

    def leave(self) -> None:
        """Ends; what is being written is stopped and kept, and so is what was not sent."""
        self.chat.conversation.stop()
        if session := self.chat.conversation.session:
            session.abandon()
        if self.history and (text := self.chat.conversation.unsent()):
            with suppress(LocalmtpError):
                # The history has said before that it cannot write.
                self.history.keep_unsent(text)
        self.exit()

    def close(self) -> None:
        """Frees the models; after the application has ended."""
        self.chat.loader.close()
        if self.history:
            self.history.close()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette offers the actions of the table, and no others."""
        for action in CHAT_ACTIONS:
            yield SystemCommand(action.label, action.help, partial(self._act, action.name))

    async def _act(self, name: str) -> None:
        await self.chat.run_action(name)

    def _look_for_garbage(self) -> None:
        if self.chat.conversation.answer or self.chat.loader.state or self.screen is not self.chat:
            self._garbage.moved()
        self._garbage.idle()

    def _look_for_terminal(self, is_gone: Callable[[], bool]) -> None:
        """Leaves if it is gone: one that does not control this process goes without a signal."""
        if is_gone():
            self.leave()

    def _open_history(self, path: Path) -> tuple[History, str]:
        from localmtp.history import History

        self.history = History(path)
        return self.history, self.history.take_unsent()

    def _brush(self) -> Brush:
        palette = PALETTES.get(self.theme, PALETTES["localmtp-dark"])
        return Brush(palette, monochrome=self.no_color)
