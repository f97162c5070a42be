"""From the thread that generates to the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

from localmtp.engine.events import Event

KEEP_EVERY_S = 1.0
"""How often a growing answer is stored: a crash costs a sentence, not an answer."""


class Feed:
    """Events on their way; the screen takes them at its own pace.

    A deque needs no lock, and no message wakes the event loop for each pass.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def take(self) -> list[Event]:
        """What has come since the last time."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def pump(self, start: Callable[[], Iterator[Event]], keep: Callable[[], None]) -> None:
        """Passes events on until the last; runs in a thread.

        Args:
            start: begins an answer; called in the thread, as it may have to tokenize much.
            keep: stores the conversation as it stands: the question before it is answered,
                the answer every now and then, and at its end.
        """
        events = start()
        keep()
        kept = monotonic()
        try:
            for event in events:
                self._events.append(event)
                if monotonic() - kept > KEEP_EVERY_S:
                    keep()
                    kept = monotonic()
        finally:
            keep()
