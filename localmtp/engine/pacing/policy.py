"""Draft policies: the interface, and the fixed draft length."""

from __future__ import annotations

from typing import Protocol

from localmtp.engine.pacing.plan import RoundPlan


class DraftPolicy(Protocol):
    """Decides the draft length of one answer, step by step."""

    automatic: bool
    """Whether the policy learns from costs; others need no cost model."""

    @property
    def state(self) -> str:
        """`on`, or `off: REASON`."""

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Begins a round.

        Args:
            limit: longest draft, in tokens.
            plan: plan of the round, shared by all answers.
        """

    def copy_length(self, match: int, available: int) -> int:
        """Number of tokens to copy from the context; 0 to draft instead.

        Args:
            match: number of tokens in front of the source that match the end of the text.
            available: number of tokens at the source.
        """

    def should_draft(self) -> bool:
        """Returns whether another draft step is worth its time."""

    def should_verify(self, confidence: float) -> bool:
        """Returns whether the token of the last step is worth a row of the pass.

        Otherwise the draft ends before it.

        Args:
            confidence: see `Proposal`.
        """

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Ends the round.

        Args:
            accepted: number of accepted tokens.
            draft_s: seconds of all answers' draft steps.
            verify_s: seconds of the pass and of acceptance.
        """


class FixedPolicy:
    """One draft length, 0 included.

    Args:
        length: in tokens.
        off: reason for a `length` of 0.
        copies: drafts are copied from the context; otherwise only drafted ones count.
    """

    automatic = False

    def __init__(self, length: int, off: str = "--n-draft 0", *, copies: bool = False) -> None:
        self._length = length
        self._copies = copies
        self._left = 0
        self.state = "on" if length else f"off: {off}"

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Allows the fixed length, at most `limit`."""
        self._left = min(self._length, limit)

    def copy_length(self, match: int, available: int) -> int:
        """Returns 0, unless drafts are copies."""
        return min(self._left, available) if self._copies else 0

    def should_draft(self) -> bool:
        """Returns whether the draft is shorter than the length."""
        return self._left > 0

    def should_verify(self, confidence: float) -> bool:
        """Returns True."""
        self._left -= 1
        return True

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learns nothing."""
