"""Decides the draft length of one answer, step by step; the fixed length."""

from __future__ import annotations

from typing import Protocol

from localmtp.engine.pacing.plan import RoundPlan


class DraftPolicy(Protocol):
    """Decides the draft length of one answer."""

    automatic: bool
    """Whether it learns from what passes cost; others need no cost model."""

    @property
    def state(self) -> str:
        """`on`, or `off: REASON`."""

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Begins a round.

        Args:
            limit: longest draft, in tokens.
            plan: of all answers in the round.
        """

    def copy_length(self, match: int, available: int) -> int:
        """Number of tokens to copy from the context; 0 to draft instead.

        Args:
            match: number of tokens before the source that match the end of the text.
            available: number of tokens at the source.
        """

    def should_draft(self) -> bool:
        """Whether another draft step is worth its time."""

    def should_verify(self, confidence: float) -> bool:
        """Whether the token of the last step is worth a row of the pass.

        If not, the draft ends before it.

        Args:
            confidence: see `Proposal`.
        """

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Ends the round.

        Args:
            accepted: number of accepted tokens.
            draft_s: seconds of all answers' draft steps.
            verify_s: seconds of the pass and its judgement.
        """


class FixedPolicy:
    """One draft length, 0 included.

    Args:
        length: in tokens.
        off: why nothing is drafted where `length` is 0.
    """

    automatic = False

    def __init__(self, length: int, off: str = "--n-draft 0") -> None:
        self._length = length
        self._left = 0
        self.state = "on" if length else f"off: {off}"

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Allows the fixed length, at most `limit`."""
        self._left = min(self._length, limit)

    def copy_length(self, match: int, available: int) -> int:
        """Returns 0: the length is one of drafts."""
        return 0

    def should_draft(self) -> bool:
        """Whether the length is not reached."""
        return self._left > 0

    def should_verify(self, confidence: float) -> bool:
        """Returns True."""
        self._left -= 1
        return True

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learns nothing."""
