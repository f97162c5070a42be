"""A thinking budget: at its limit, the thought is closed and the answer begins.

The tokens that close a thought are forced by masking their rows, in p and in q, before the
acceptance rule compares them. A row is masked as a function of the tokens before it alone, so
drafting stays exact, and forced tokens are drafted and accepted like others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from localmtp.engine.sampling.distribution import Draft, Proposal

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.sampling.sampler import Sampler


@dataclass(frozen=True, slots=True)
class ThoughtMarkers:
    """Token ids around thoughts."""

    opening: int
    closing: int
    name_length: int
    """Tokens after `opening` that name the channel and do not count."""
    sentence: tuple[int, ...]
    """Written before `closing` where a thought is cut."""


class _Place(NamedTuple):
    """Place in the answer."""

    inside: bool
    """In a thought."""
    used: int
    """Tokens of thoughts so far."""
    forced: int = 0
    """Tokens of the forced end so far."""


class ThoughtLimitSampler:
    """Chooses as another sampler does, but ends thoughts that exceed a budget.

    Args:
        inner: chooses; sees rows of forced tokens with all other tokens masked.
        markers: of the model's vocabulary.
        budget: tokens of all thoughts of the answer together.
        prompt: token ids before the answer.
        in_thought: whether the prompt ends inside a thought; its tokens count.
    """

    def __init__(
        self,
        inner: Sampler,
        markers: ThoughtMarkers,
        budget: int,
        prompt: Sequence[int],
        *,
        in_thought: bool,
    ) -> None:
        self._inner = inner
        self._opening, self._closing = markers.opening, markers.closing
        self._name_length = markers.name_length
        self._end = (*markers.sentence, markers.closing)
        self._budget = budget
        self._place = self._ahead = _Place(inside=False, used=0)
        if in_thought:
            self._place = self._ahead = self._resumed(prompt)
        self.cut = False
        """Whether a thought was ended."""

    def propose(self, logits: Floats) -> Proposal:
        """Summarizes with the inner sampler; a forced token is certain."""
        token = self._forced(self._ahead)
        if not 0 <= token < logits.size:
            return self._inner.propose(logits)
        before = _mask(logits, token)
        proposal = self._inner.propose(logits)
        logits[:] = before
        return proposal

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draws with the inner sampler."""
        token = self._inner.draw(proposal, draft)
        self._ahead = self._after(self._ahead, token)
        return token

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verifies with the inner sampler on masked rows; restores them afterwards."""
        place, masked = self._place, []
        for row, drafted in enumerate((*draft.tokens, -1)):
            token = self._forced(place)
            if token >= 0:
                masked.append((row, _mask(logits[row], token)))
                if drafted != token:
                    break  # rejected; later rows are not needed
            place = self._after(place, drafted)
        accepted, next_token = self._inner.accept(logits, draft)
        for row, before in masked:
            logits[row] = before
        place = self._place
        for token in (*draft.tokens[:accepted], next_token):
            self.cut = self.cut or self._forced(place) >= 0
            place = self._after(place, token)
        self._place = self._ahead = place
        return accepted, next_token

    def _forced(self, place: _Place) -> int:
        """The only token allowed at a place; -1 if all are."""
        return self._end[place.forced] if place.inside and place.used >= self._budget else -1

    def _after(self, place: _Place, token: int) -> _Place:
        inside, used, forced = place
        if not inside:
            return _Place(True, used - self._name_length) if token == self._opening else place
        if token == self._closing:
            return _Place(inside=False, used=used)
        if used >= self._budget:
            return _Place(inside, used, forced + 1)
        return _Place(inside, used + 1)

    def _resumed(self, prompt: Sequence[int]) -> _Place:
        """Place at the end of a prompt inside a thought, perhaps within its forced end."""
        after = next((n for n, token in enumerate(reversed(prompt)) if token == self._opening), 0)
        used = after - self._name_length
        forced = used - self._budget
        if 0 < forced < len(self._end) and tuple(prompt[-forced:]) == self._end[:forced]:
            return _Place(inside=True, used=self._budget, forced=forced)
        return _Place(inside=True, used=used)


def _mask(logits: Floats, token: int) -> Floats:
    """Leaves one token of a row; returns the row as it was."""
    before = logits.copy()
    logits[:] = -np.inf
    # A token that the model suppresses would leave nothing to choose.
    logits[token] = before[token] if np.isfinite(before[token]) else 0.0
    return before
