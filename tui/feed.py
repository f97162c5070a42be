"""From the thread that generates to the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from localmtp.engine.events import Event


class Feed:
    """Events on their way; the screen takes them at its own pace.

    A deque needs no lock, and no message wakes the event loop for each pass.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def take(self) -> list[Event]:
        """What has come since the last time."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def pump(self, start: Callable[[], Iterator[Event]]) -> None:
        """Passes events on until the last; runs in a thread.

        Args:
            start: begins an answer; called in the thread, as it may have to tokenize much.
        """
        self._events.extend(start())
