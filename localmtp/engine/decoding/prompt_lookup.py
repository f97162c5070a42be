"""Drafts copied from the context, where text repeats: no draft steps needed.

Prompt lookup decoding (Saxena 2023), its length decided by pacing.
"""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.decoding.drafter import Drafter, DraftSlot
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.sampling.sampler import Distribution, Proposal
from localmtp.limits import MAX_DRAFT

_GRAM = 3
"""Tokens that must match before a place is considered: two match by chance too often."""

_MAX_MATCH = 32
"""Tokens compared backwards: longer matches add no information."""

_TAIL = 16
"""Tokens that identify the indexed context."""


class PromptLookup:
    """Finds earlier occurrences of the last tokens of one sequence.

    Args:
        sequence: searched.
    """

    def __init__(self, sequence: TargetSequence) -> None:
        self._sequence = sequence
        self._after: dict[tuple[int, ...], int] = {}
        """Position that follows the latest occurrence of each n-gram."""
        self._indexed = 0
        self._tail: list[int] = []

    def propose(self, slot: DraftSlot) -> bool:
        """Copies a draft into the slot, where one is found and pacing expects it to pay.

        A copied token is drawn from a distribution that has no other.

        Returns:
            Whether tokens were copied.
        """
        tokens, pending = self._sequence.tokens, slot.pending
        self._index(tokens)
        at = self._after.get((*tokens[1 - _GRAM :], pending))
        if at is None:
            return False
        match = self._match(tokens, pending, at)
        following = tokens[at : at + MAX_DRAFT]
        if not match or min(following) < 0:  # media are never drafted
            return False
        length = slot.policy.copy_length(match, len(following))
        for token in following[:length]:
            certain = Distribution([token], [1.0])
            slot.sampler.draw(Proposal(1.0, token, certain), slot.draft)
        return bool(length)

    def _index(self, tokens: list[int]) -> None:
        """Indexes new tokens, or all of them when the context has changed."""
        done, after = self._indexed, self._after
        if tokens[max(0, done - _TAIL) : done] != self._tail:
            done = 0
            after.clear()
        for end in range(max(done, _GRAM - 1), len(tokens)):
            after[tuple(tokens[end - _GRAM + 1 : end + 1])] = end + 1
        self._indexed = len(tokens)
        self._tail = tokens[-_TAIL:]

    @staticmethod
    def _match(tokens: list[int], pending: int, at: int) -> int:
        """Number of tokens before `at` that match the end of the text; 0 if it is no match."""
        if not 0 < at < len(tokens) or tokens[at - 1] != pending:
            return 0
        most = min(_MAX_MATCH, at)
        same = 1
        while same < most and tokens[-same] == tokens[at - 1 - same]:
            same += 1
        return same


class PromptLookupDrafter:
    """Copies from the context where that pays; elsewhere another drafter drafts.

    Args:
        sequences: all of the target's, by number.
        drafter: drafts where nothing is copied; closed with this one.
    """

    def __init__(self, sequences: Sequence[TargetSequence], drafter: Drafter) -> None:
        self._lookups = [PromptLookup(sequence) for sequence in sequences]
        self.drafter = drafter

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Copies or drafts; see `Drafter.propose`."""
        lookups = self._lookups
        rest = [slot for slot in slots if not lookups[slot.sequence.index].propose(slot)]
        if rest:
            self.drafter.propose(rest)

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """See `Drafter.prefilled`; the index follows the sequence by itself."""
        self.drafter.prefilled(sequence, begin)

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """See `Drafter.committed`."""
        self.drafter.committed(slot, accepted)

    def close(self) -> None:
        """Closes the other drafter."""
        self.drafter.close()
