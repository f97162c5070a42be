"""Rounds of an answer: the draft of each target pass and the tokens accepted from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from localmtp.engine.events import Channel, Generated, Origin, Piece


@dataclass(frozen=True, slots=True)
class AnswerRound:
    """One target pass as shown in the chat."""

    pieces: tuple[Piece, ...]
    """Pieces that the pass added to the answer."""
    drafted: tuple[int, ...]
    """Token ids of the draft; -1 where another server does not report them."""

    @classmethod
    def of(cls, event: Generated) -> AnswerRound:
        """Makes the round reported by an event."""
        return cls(event.pieces, event.drafted)

    @property
    def accepted(self) -> int:
        """Number of accepted draft tokens."""
        return sum(piece.origin is Origin.DRAFT for piece in self.pieces)

    @property
    def rejected(self) -> bool:
        """Whether the target rejected a draft token."""
        return self.accepted < len(self.drafted)

    def tokens(self, channel: Channel) -> Iterator[tuple[str, Origin, bool]]:
        """Yields text, origin and whether it replaces a rejected draft token, for each token."""
        for piece in self.pieces:
            if piece.channel is channel:
                corrects = self.rejected and piece.origin is Origin.TARGET
                yield piece.text, piece.origin, corrects
