"""Output to a terminal that may be closed at any time.

Textual writes in a thread with a bounded queue. An error of the terminal would end that thread, and
the next writes, those of leaving the chat included, would wait forever.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from textual.driver import Driver


class TerminalOutput:
    """Writes to a terminal and discards the output once the terminal is closed.

    Args:
        file: the terminal; all attributes but `write` and `flush` are its own.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Writes text; ignores errors of the terminal."""
        with suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        """Flushes the text; ignores errors of the terminal."""
        with suppress(OSError, ValueError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def tolerant(driver: type[Driver]) -> type[Driver]:
    """Returns a subclass of a Textual driver that ignores errors of the terminal's output."""

    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        driver.__init__(self, *args, **kwargs)
        if hasattr(self, "_file"):
            self._file = TerminalOutput(self._file)

    return type(f"Tolerant{driver.__name__}", (driver,), {"__init__": initialize})
