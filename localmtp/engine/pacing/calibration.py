"""Calibration of a drafter: saved between runs, shared by answers."""

from __future__ import annotations

from typing import Any, Self

from localmtp.engine.pacing.acceptance import CopyAcceptance, DraftAcceptance


class Calibration:
    """Acceptance rates of drafts and copies, for either greedy or sampled answers.

    The two need separate calibrations: the same confidence has a different meaning in each.
    """

    def __init__(self) -> None:
        self.drafts = DraftAcceptance()
        self.copies = CopyAcceptance()
        self.copies_only = False
        """Whether there is no drafter: drafts are only copied from the context."""

    @property
    def measured(self) -> bool:
        """Whether anything was verified since this was created or loaded."""
        return self.drafts.measured or self.copies.measured

    def dump(self) -> dict[str, Any]:
        """JSON-ready state for the next run.

        Costs are not included: the machine's load differs between runs, and a few rounds measure
        them.
        """
        return {
            "accepted": self.drafts.accepted,
            "share": self.drafts.share,
            "copied": self.copies.accepted,
        }

    @classmethod
    def load(cls, saved: dict[str, Any]) -> Self:
        """Restores what `dump` returned.

        Raises:
            KeyError, ValueError, TypeError: `saved` is not from `dump`.
        """
        calibration = cls()
        calibration.drafts.load(saved["accepted"])
        calibration.drafts.share = saved["share"]
        calibration.copies.load(saved["copied"])
        return calibration
