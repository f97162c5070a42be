"""Drafts copied from the context: where text repeats, the drafter need not be asked.

Prompt look-up decoding (Saxena 2023), with the length decided by pacing.
"""

from __future__ import annotations

from localmtp.engine.decoding.drafter import Drafter
from localmtp.engine.decoding.target import Target
from localmtp.engine.pacing import Pacing
from localmtp.engine.sampling.sampler import Distribution, Draft, Proposal, Sampler
from localmtp.limits import MAX_DRAFT

_GRAM = 3
"""Tokens that must agree before a place is looked at: two agree too often by chance."""

_LONGEST_MATCH = 32
"""Tokens that are compared backwards: longer matches say nothing new."""

_TAIL = 16
"""Tokens that show whether the context is still the one that was indexed."""


class Lookup:
    """Finds what followed when the last tokens stood in a sequence before.

    Args:
        target: the sequence that is searched.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._after: dict[tuple[int, ...], int] = {}
        """Where the text goes on behind the latest place of each n-gram."""
        self._indexed = 0
        self._tail: list[int] = []

    def copy(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft | None:
        """A draft, if there is one and pacing thinks that it pays; see `Drafter.propose`.

        A copied token is its own distribution.
        """
        tokens = self._target.tokens
        self._index(tokens)
        at = self._after.get((*tokens[1 - _GRAM :], last))
        if at is not None:
            match = self._match(tokens, last, at)
            length = pacing.copy(match, min(MAX_DRAFT, len(tokens) - at)) if match else 0
            if length:
                draft = Draft()
                for token in tokens[at : at + length]:
                    certain = Distribution([token], [1.0])
                    sampler.draw(Proposal(1.0, token, certain), draft)
                return draft
        return None

    def _index(self, tokens: list[int]) -> None:
        """Take in what was added, or all of it when the context is another one."""
        done, after = self._indexed, self._after
        if tokens[max(0, done - _TAIL) : done] != self._tail:
            done = 0
            after.clear()
        for end in range(max(done, _GRAM - 1), len(tokens)):
            after[tuple(tokens[end - _GRAM + 1 : end + 1])] = end + 1
        self._indexed = len(tokens)
        self._tail = tokens[-_TAIL:]

    @staticmethod
    def _match(tokens: list[int], last: int, at: int) -> int:
        """How many tokens before `at` agree with the end of the text; 0 if there is no place."""
        if not 0 < at < len(tokens) or tokens[at - 1] != last:
            return 0
        most = min(_LONGEST_MATCH, at)
        same = 1
        while same < most and tokens[-same] == tokens[at - 1 - same]:
            same += 1
        return same


class LookupDrafter:
    """Copies from the context where that pays; else asks another drafter.

    Args:
        target: whose context is searched.
        other: drafts where nothing is copied; closed with this one.
    """

    def __init__(self, target: Target, other: Drafter) -> None:
        self._lookup = Lookup(target)
        self._other = other

    def propose(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft:
        """Copy or draft."""
        copied = self._lookup.copy(last, sampler, pacing)
        return self._other.propose(last, sampler, pacing) if copied is None else copied

    def close(self) -> None:
        """Close the other drafter."""
        self._other.close()
