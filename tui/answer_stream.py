"""Passes the events of an answer from the generating thread to the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING

from localmtp.engine.events import Event

if TYPE_CHECKING:
    from localmtp.session import Session

SAVE_EVERY_S = 1.0
"""Seconds between saves of a growing answer: a crash costs a sentence, not an answer."""


class AnswerStream:
    """Buffers the events of one answer until the screen takes them.

    A deque needs no lock, and no message wakes the event loop for each pass.

    Args:
        session: generates the answer.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: deque[Event] = deque()
        self._stopped = False

    def stop(self) -> None:
        """Cancels the answer, even before it started."""
        self._stopped = True
        self._session.cancel()

    def take(self) -> list[Event]:
        """Removes and returns the buffered events."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def run(self, start: Callable[[], Iterator[Event]], save: Callable[[bool], None]) -> None:
        """Generates the answer; blocking, called in a thread.

        Args:
            start: starts the answer; called in the thread, since tokenizing a long prompt is slow.
            save: saves the conversation: before the answer, about once a second, and at the end.
                Its argument is whether only the last message may have changed.
        """
        events = start()
        if self._stopped:
            # Starting an answer clears an earlier cancellation.
            self._session.cancel()
        save(False)
        saved_at = monotonic()
        try:
            for event in events:
                self._events.append(event)
                if monotonic() - saved_at > SAVE_EVERY_S:
                    save(True)
                    saved_at = monotonic()
        finally:
            save(True)
