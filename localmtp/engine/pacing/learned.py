"""What pacing knows of a drafter: worth keeping, and the same for all who draft with it."""

from __future__ import annotations

from typing import Any, Self

from localmtp.engine.pacing.chances import Chances, Copies


class Learned:
    """How often drafts and copies are accepted, at one way of sampling.

    Greedy and sampled answers need one each: confidence means something else in them.
    """

    def __init__(self) -> None:
        self.chances = Chances()
        self.copies = Copies()

    def dump(self) -> dict[str, Any]:
        """What is worth keeping for the next run, as JSON has it.

        Not what passes cost: the machine may be busy now and idle then, and five rounds show it.
        """
        return {
            "accepted": self.chances.accepted,
            "share": self.chances.share,
            "copied": self.copies.accepted,
        }

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Self:
        """The opposite of `dump`.

        Raises:
            KeyError, ValueError, TypeError: not made by `dump`.
        """
        learned = cls()
        learned.chances.load(kept["accepted"])
        learned.chances.share = kept["share"]
        learned.copies.load(kept["copied"])
        return learned
