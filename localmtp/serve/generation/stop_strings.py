"""Stop strings in streamed text."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Releases text as soon as it can no longer be part of a stop string.

    Args:
        stops: non-empty strings.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False
        """Whether a stop string was found; the text after it is discarded."""
        self.matched: str | None = None
        """The stop string that was found."""
        self.released = 0
        """Number of characters released so far."""

    def feed(self, text: str) -> str:
        """Add text.

        Returns:
            Text that can be released now: everything before a stop string, nothing of it.
        """
        if self.hit:
            return ""
        held = self._held + text
        found = [(at, stop) for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.hit, self._held = True, ""
            at, self.matched = min(found)
            return self._release(held[:at])
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return self._release(held[: len(held) - keep])

    def rest(self) -> str:
        """Release the text still held back, at the end of the answer."""
        rest, self._held = self._held, ""
        return self._release(rest)

    def _release(self, text: str) -> str:
        self.released += len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
