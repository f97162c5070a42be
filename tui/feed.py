"""From the thread that generates to the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING

from localmtp.engine.events import Event

if TYPE_CHECKING:
    from localmtp.session import Session

KEEP_EVERY_S = 1.0
"""How often a growing answer is stored: a crash costs a sentence, not an answer."""


class Feed:
    """The events of one answer on their way; the screen takes them at its own pace.

    A deque needs no lock, and no message wakes the event loop for each pass.

    Args:
        session: that answers.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: deque[Event] = deque()
        self._stopped = False

    def stop(self) -> None:
        """Ends the answer, even one that has not begun."""
        self._stopped = True
        self._session.cancel()

    def take(self) -> list[Event]:
        """What has come since the last time."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def pump(self, start: Callable[[], Iterator[Event]], keep: Callable[[bool], None]) -> None:
        """Passes events on until the last; runs in a thread.

        Args:
            start: begins an answer; called in the thread, as it may have to tokenize much.
            keep: stores the conversation as it stands: the question before it is answered,
                the answer every now and then, and at its end. Told whether only the last
                message may have changed since.
        """
        events = start()
        if self._stopped:
            # Beginning an answer forgets that an earlier one was cancelled.
            self._session.cancel()
        keep(False)
        kept = monotonic()
        try:
            for event in events:
                self._events.append(event)
                if monotonic() - kept > KEEP_EVERY_S:
                    keep(True)
                    kept = monotonic()
        finally:
            keep(True)
