"""What a drafter asks while it drafts, and the plainest answer."""

from __future__ import annotations

from typing import Protocol


class Pacing(Protocol):
    """Decides the length of a draft, step by step."""

    def begin(self, limit: int) -> None:
        """A new round, in which at most `limit` tokens can be drafted."""

    def copy(self, match: int, available: int) -> int:
        """How many tokens to copy from the context instead of drafting; 0 to draft.

        Args:
            match: how many tokens before the place to copy from agree with the end of the text.
            available: how many there are.
        """

    def go_on(self) -> bool:
        """Whether another draft step is worth its cost."""

    def keep(self, confidence: float) -> bool:
        """Whether the token of that step is worth verifying; if not, the draft ends before it."""

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """How the round ended: tokens accepted, seconds spent drafting and verifying."""

    @property
    def state(self) -> str:
        """`on`, or `off: REASON`."""


class FixedPacing:
    """Always the same length, 0 included."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._left = 0
        self.state = "on" if length else "off: --n-draft 0"

    def begin(self, limit: int) -> None:
        """As many as asked for, if they fit."""
        self._left = min(self._length, limit)

    def copy(self, match: int, available: int) -> int:
        """Never: the length is that of the drafter's drafts."""
        return 0

    def go_on(self) -> bool:
        """Until the length is reached."""
        return self._left > 0

    def keep(self, confidence: float) -> bool:
        """Always."""
        self._left -= 1
        return True

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Nothing is learned."""
