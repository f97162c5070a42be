"""One generation at a time: which reply may use the model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from localmtp.errors import LocalmtpError


class Closeable(Protocol):
    """Something that stops using the model when it is closed."""

    def close(self) -> None:
        """Stops; blocking."""


class Turns:
    """A lock that threads wait for, and that detects a thread waiting for itself."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._state = threading.Lock()
        """Guards the three below."""
        self._thread: int | None = None
        self._holder: Callable[[], Closeable | None] | None = None
        self._closed = False

    def take(self, holder: Callable[[], Closeable | None]) -> None:
        """Waits until the model is free.

        Args:
            holder: a weak reference to what is closed when the model is.

        Raises:
            LocalmtpError: this thread has an unfinished reply, or the model is closed.
        """
        if self._thread == threading.get_ident():
            raise LocalmtpError(
                "this thread has not finished another reply of the same model",
                hint="read that reply to its end, or call its `close()`",
            )
        self._free.acquire()
        with self._state:
            if not self._closed:
                self._thread, self._holder = threading.get_ident(), holder
                return
        self._free.release()
        raise LocalmtpError("the model is closed", hint="load it again")

    def release(self) -> None:
        """Lets the next reply generate; may be called from another thread than `take`."""
        with self._state:
            self._thread = self._holder = None
        self._free.release()

    def close(self) -> bool:
        """Closes what uses the model, and lets nothing use it any more.

        Returns:
            False if it was closed before.
        """
        with self._state:
            was_closed, self._closed = self._closed, True
            holder = self._holder() if self._holder else None
        if holder is not None:
            holder.close()
        with self._free:
            return not was_closed
