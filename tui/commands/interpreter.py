"""Does what the slash commands say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.atomic import atomic_write_text
from localmtp.errors import LocalmtpError
from localmtp.tui.commands import export
from localmtp.tui.commands.settings import changed
from localmtp.tui.commands.table import find, nearest
from localmtp.tui.drawing.entries import UserEntry
from localmtp.tui.drawing.text import plural

if TYPE_CHECKING:
    from localmtp.session import Session
    from localmtp.tui.screens.chat import ChatScreen

LARGEST_FILE = 1 << 20
"""Bytes that `/read` takes: far more than any context holds."""


class Interpreter:
    """One method for each command of the table; each returns what there is to note, if anything.

    Args:
        chat: the screen to act on.
    """

    def __init__(self, chat: ChatScreen) -> None:
        self._chat = chat

    def run(self, name: str, argument: str) -> None:
        """Obeys one command; whatever is wrong is said in the conversation."""
        command = find(name)
        try:
            if command is None:
                raise LocalmtpError(f"there is no /{name}", hint=f"nearest: /{nearest(name)}")
            if command.argument and not command.argument.startswith("[") and not argument:
                raise LocalmtpError(f"/{command.name} needs {command.argument}")
            method = getattr(self, command.name.replace("-", "_"), None) or getattr(
                self, f"{command.name}_"
            )
            self._chat.note(method(argument) or "")
        except LocalmtpError as error:
            self._chat.conversation.say(error.message, error.hint, error=True)

    @property
    def _session(self) -> Session:
        session = self._chat.conversation.session
        if session is None:
            raise LocalmtpError("no model is loaded yet")
        return session

    def help(self, _: str) -> None:
        """Shows keys and commands."""
        self._chat.action_help()

    def new(self, _: str) -> None:
        """Begins anew."""
        self._chat.action_new()

    def model(self, name: str) -> None:
        """Another model answers."""
        if name:
            self._chat.switch(name)
        else:
            self._chat.action_models()

    def sessions(self, words: str) -> None:
        """Lists what is saved."""
        self._chat.action_sessions(words)

    def regen(self, _: str) -> None:
        """Answers once more."""
        self._chat.action_regenerate()

    def continue_(self, _: str) -> str:
        """Goes on."""
        return "" if self._chat.conversation.resume() else "there is no answer that was cut"

    def edit(self, _: str) -> str:
        """Changes the last question."""
        entries = self._chat.conversation.transcript.entries
        asked = [entry for entry in entries if isinstance(entry, UserEntry)]
        if not asked or not self._chat.conversation.edit(asked[-1]):
            return "there is nothing to edit now"
        return "Enter branches off here"

    def undo(self, _: str) -> str:
        """Deletes the last exchange."""
        entry = self._chat.conversation.last_answer()
        if not entry or not self._chat.conversation.delete(entry):
            return "there is nothing to undo now"
        return "deleted"

    def copy(self, which: str) -> str:
        """Copies."""
        if which == "all":
            session = self._session
            self._chat.app.copy_to_clipboard(export.markdown(session.name, session.messages))
            return "conversation copied"
        answer = self._chat.conversation.last_answer()
        if answer is None:
            raise LocalmtpError("there is no answer to copy")
        if not which:
            return self._chat.copy(answer.text)
        blocks = answer.document.code_blocks()
        if not which.isdecimal() or not 1 <= int(which) <= len(blocks):
            raise LocalmtpError(f"the answer has {plural(len(blocks), 'code block')}")
        return self._chat.copy(blocks[int(which) - 1])

    def colours(self, _: str) -> None:
        """Colours tokens."""
        self._chat.action_colours()

    def rounds(self, _: str) -> None:
        """Steps through rounds."""
        self._chat.action_rounds()

    def race(self, prompt: str) -> None:
        """Answers twice."""
        self._chat.race(prompt)

    def draft(self, length: str) -> str:
        """Sets the draft length."""
        return self.set(f"draft {length}")

    def set(self, pair: str) -> str:
        """Changes a setting."""
        key, _, value = pair.partition(" ")
        self._session.update_settings(changed(self._session.settings, key, value.strip()))
        return f"{key} {value}, from the next message"

    def system(self, text: str) -> str:
        """Sets the system prompt."""
        self._session.update_settings(replace(self._session.settings, system=text))
        return "system prompt set, from the next message" if text else "no system prompt"

    def think(self, state: str) -> str:
        """Turns thinking on or off."""
        if state not in ("on", "off"):
            raise LocalmtpError("/think needs on|off")
        self._session.update_settings(replace(self._session.settings, think=state == "on"))
        return f"thinking {state}, from the next message"

    def prompt(self, _: str) -> None:
        """Shows the rendered prompt."""
        self._chat.show_prompt(self._session)

    def read(self, name: str) -> str:
        """Puts a file into the prompt."""
        path = Path(name).expanduser()
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
            text = content.decode()
        except OSError as error:
            raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise LocalmtpError(f"{path} is not a text file") from error
        if len(content) > LARGEST_FILE:
            raise LocalmtpError(f"{path} is larger than 1 MiB")
        self._chat.conversation.prompt.put(f"{path.name}:\n\n```\n{text.rstrip()}\n```\n\n")
        return f"{path.name} is in the prompt"

    def export(self, name: str) -> str:
        """Writes the conversation."""
        path = Path(name or "conversation.md").expanduser()
        session = self._session
        if path.suffix == ".json":
            atomic_write_text(path, export.as_json(session.name, session.messages))
        else:
            atomic_write_text(path, export.markdown(session.name, session.messages))
        return f"written: {path}"

    def save_stats(self, name: str) -> str:
        """Writes statistics and a picture."""
        path = Path(name or "localmtp-stats.json").expanduser()
        session = self._session
        atomic_write_text(path, export.as_json(session.name, session.messages))
        picture = path.with_suffix(".svg")
        atomic_write_text(picture, self._chat.app.export_screenshot(title="localmtp"))
        return f"written: {path} and {picture.name}"

    def stats(self, _: str) -> None:
        """Shows or hides the panel."""
        self._chat.action_panel()

    def theme(self, _: str) -> None:
        """Dark or light."""
        self._chat.run_worker(self._chat.app.run_action("theme"))

    def quit(self, _: str) -> None:
        """Leaves."""
        self._chat.run_worker(self._chat.app.run_action("quit"))
