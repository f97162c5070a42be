"""Saves the conversation on screen to the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.history import History
    from localmtp.session import Session


class ConversationSaver:
    """Saves one conversation at a time; after an error, tries again at the end of each answer.

    Args:
        failed: called with the first error of several, in the thread that saves.
        copied: called in the thread that saves when another program has changed the conversation,
            which is then saved as a copy.
    """

    def __init__(
        self, failed: Callable[[LocalmtpError], object], copied: Callable[[], object]
    ) -> None:
        self.history: History | None = None
        """The saved conversations; None until they are open, and when nothing is saved."""
        self.conversation_id: int | None = None
        """Id of the conversation in the history; None until it is saved for the first time."""
        self._failing = False
        self._failed = failed
        self._copied = copied

    def save(self, session: Session, *, last_only: bool = False) -> None:
        """Saves the messages and settings of a session; blocking, called in threads.

        Args:
            session: to save.
            last_only: whether only the last message may have changed since the last call.
        """
        if not self.history or (self._failing and last_only):
            # A file that another program has locked delays each attempt by seconds.
            return
        try:
            messages = session.messages
            if self.conversation_id is None and messages:
                title = " ".join([messages[0].text, *(one.name for one in messages[0].media)])
                self.conversation_id = self.history.begin(title.strip(), session.name)
            if self.conversation_id is not None:
                since = max(0, len(messages) - 1) if last_only else 0
                saved_as = self.history.save(
                    self.conversation_id, messages, session.settings, since=since
                )
                if saved_as != self.conversation_id:
                    self.conversation_id = saved_as
                    self._copied()
            self._failing = False
        except LocalmtpError as error:
            if not self._failing:
                self._failing = True
                self._failed(error)
