"""The rounds of an answer: what was proposed in each, and what was kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from localmtp.engine.events import Channel, Generated, Origin, Piece


@dataclass(frozen=True, slots=True)
class Round:
    """One target pass."""

    pieces: tuple[Piece, ...]
    """What it added to the answer."""
    drafted: tuple[int, ...]
    """Token ids that were proposed."""

    @classmethod
    def of(cls, event: Generated) -> Round:
        """The round that an event reports."""
        return cls(event.pieces, event.drafted)

    @property
    def accepted(self) -> int:
        """How many of the proposed tokens were kept."""
        return sum(piece.origin is Origin.DRAFT for piece in self.pieces)

    @property
    def rejected(self) -> bool:
        """Whether the target put a token of its own in place of a proposed one."""
        return self.accepted < len(self.drafted)

    def marked(self, channel: Channel) -> Iterator[tuple[str, Origin, bool]]:
        """Text, origin and whether it corrects a rejected draft, for each token."""
        for piece in self.pieces:
            if piece.channel is channel:
                corrects = self.rejected and piece.origin is Origin.TARGET
                yield piece.text, piece.origin, corrects
