"""Copies drafts from the context where text repeats, without draft steps.

Prompt lookup decoding (Saxena 2023), with lengths decided by pacing.
"""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.decoding.drafter import Drafter, DraftSlot
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import DrafterState
from localmtp.engine.sampling.distribution import Draft, Proposal, certain
from localmtp.limits import MAX_DRAFT

_MAX_MATCH = 32
"""Tokens compared backwards: longer matches add no information."""


class PromptLookup:
    """Finds earlier occurrences of the last tokens of one sequence.

    Args:
        sequence: searched.
    """

    def __init__(self, sequence: TargetSequence) -> None:
        self._sequence = sequence
        self._after: dict[tuple[int, int, int], int] = {}
        """Position after the latest occurrence of three tokens; two would match by chance."""
        self._indexed = 0

    def propose(self, slot: DraftSlot) -> bool:
        """Copies a draft into the slot, if one is found and pacing expects it to pay.

        A copied token has a one-point distribution.

        Returns:
            Whether tokens were copied.
        """
        tokens, pending = self._sequence.tokens, slot.pending
        if len(tokens) < 2:
            return False
        at = self._after.get((tokens[-2], tokens[-1], pending))
        if at is None:
            return False
        match = self._match(tokens, pending, at)
        following = tokens[at : at + MAX_DRAFT]
        if not match or min(following) < 0:  # media are never drafted
            return False
        length = slot.policy.copy_length(match, len(following))
        if length:
            slot.draft = Draft()
        for token in following[:length]:
            slot.sampler.draw(Proposal(1.0, token, certain(token)), slot.draft)
        return bool(length)

    def index(self) -> None:
        """Indexes the new tokens of the sequence."""
        tokens, after = self._sequence.tokens, self._after
        for end in range(max(self._indexed, 2), len(tokens)):
            after[tokens[end - 2], tokens[end - 1], tokens[end]] = end + 1
        self._indexed = len(tokens)

    def restart(self, begin: int) -> None:
        """Indexes a sequence whose tokens changed from position `begin` on."""
        if begin < self._indexed:
            self._after.clear()
            self._indexed = 0
        self.index()

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


class NoDraftSteps:
    """Drafts nothing: where the text does not repeat, rounds have no drafts."""

    context = None
    """There is none: nothing is computed."""

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Leaves all drafts empty."""

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """Does nothing."""

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """Does nothing."""

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """Returns none."""
        return ()

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """Does nothing."""
        return True

    def close(self) -> None:
        """Does nothing."""


class PromptLookupDrafter:
    """Copies from the context where that pays, and otherwise uses another drafter.

    Args:
        sequences: all of the target's, by number.
        drafter: the other drafter; closed with this one.
    """

    def __init__(self, sequences: Sequence[TargetSequence], drafter: Drafter) -> None:
        self._lookups = [PromptLookup(sequence) for sequence in sequences]
        self.drafter = drafter
        self.context = drafter.context

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        """Copies or drafts; see `Drafter.propose`."""
        lookups = self._lookups
        rest = [slot for slot in slots if not lookups[slot.sequence.index].propose(slot)]
        if rest:
            self.drafter.propose(rest)

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        """See `Drafter.prefilled`."""
        self._lookups[sequence.index].restart(begin)
        self.drafter.prefilled(sequence, begin)

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        """See `Drafter.committed`."""
        self._lookups[slot.sequence.index].index()
        self.drafter.committed(slot, accepted)

    def states(self, sequence: TargetSequence) -> Sequence[DrafterState]:
        """See `Drafter.states`."""
        return self.drafter.states(sequence)

    def load(self, sequence: TargetSequence, states: Sequence[DrafterState]) -> bool:
        """See `Drafter.load`."""
        self._lookups[sequence.index].restart(0)
        return self.drafter.load(sequence, states)

    def close(self) -> None:
        """Closes the other drafter."""
        self.drafter.close()
