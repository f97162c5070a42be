"""The chat template of a session: the model's own, or a file that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.engine.text.template_editions import outdated_hint, template_name
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.engine.text.chat_template import ChatTemplate


class TemplateChoice:
    """Reads and compiles the chat template that the settings choose.

    Args:
        own: source of the model's own template; empty if it has none.
        tokens: texts of `bos` and `eos`.
    """

    def __init__(self, own: str, tokens: Mapping[str, str]) -> None:
        self._own, self._tokens = own, tokens
        self._state: object = None
        self._compiled: ChatTemplate | None = None

    def current(self, file: str) -> ChatTemplate | None:
        """Returns the compiled template; a file that has changed is read again.

        Args:
            file: `template` of the settings; empty for the model's own.

        Returns:
            None if the model has no template.

        Raises:
            LocalmtpError: the file cannot be read, or the template is not valid.
        """
        from localmtp.engine.text.chat_template import ChatTemplate

        state = _state(file)
        if state != self._state:
            source = self._source(file)
            self._compiled = ChatTemplate(source, **self._tokens) if source else None
            self._state = state
        return self._compiled

    def described(self, file: str) -> str:
        """Returns which template is used, for users: its edition, if it is one of Gemma 4's."""
        try:
            name = template_name(self._source(file))
        except LocalmtpError as error:
            return error.message
        return "of no known edition" if file and name == "its own" else name

    def hint(self, file: str, model: str) -> str:
        """Returns a warning about an outdated template; empty if there is nothing to say."""
        with suppress(LocalmtpError):
            return outdated_hint(self._source(file), model)
        return ""

    def _source(self, file: str) -> str:
        if not file:
            return self._own
        from localmtp.engine.text.template_file import read_template

        return read_template(Path(file))


def _state(file: str) -> tuple[str, int]:
    """Changes with the file."""
    try:
        return file, Path(file).stat().st_mtime_ns if file else 0
    except OSError:
        return file, -1
