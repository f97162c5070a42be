"""DRY: a penalty that grows with the length of the repetition a token would continue.

If the last n tokens have occurred before, the token that followed them there loses
multiplier x base^(n - allowed_length) (p-e-w 2024, oobabooga/text-generation-webui pull request
5677; llama.cpp has it). Words stay free, loops do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.params import OnRepeat
from localmtp.engine.sampling.repetition import RepetitionGuard

if TYPE_CHECKING:
    from localmtp.engine.llama import Floats
    from localmtp.engine.sampling.params import SamplingParams
    from localmtp.engine.sampling.sampler import Sampler

_LONGEST = 64
"""Tokens of a repetition that are compared: longer ones are forbidden anyway."""

_WINDOW = 4096
"""Largest window in tokens; a row costs time in proportion."""

_MAX_PENALTY = 1e30

_COLLAPSED = 0.8
"""Multiplier for an answer that repeats itself, if none is given: its author's proposal."""


class DrySampler:
    """Chooses as another sampler does, from logits penalized by DRY.

    Args:
        inner: chooses.
        sampling: the parameters; with `OnRepeat.DRY`, penalties begin when the answer repeats
            itself.
        prompt: token ids before the answer; repetitions of it count.
        piece: bytes of a token. Repetitions do not reach across tokens that contain a sequence
            breaker or, as control tokens, are empty; such tokens are not penalized.
    """

    def __init__(
        self,
        inner: Sampler,
        sampling: SamplingParams,
        prompt: Sequence[int],
        piece: Callable[[int], bytes],
    ) -> None:
        self._inner = inner
        self._multiplier = sampling.dry_multiplier or _COLLAPSED
        self._base = sampling.dry_base
        self._allowed = max(1, sampling.dry_allowed_length)
        last_n = sampling.dry_penalty_last_n
        self._last_n = min(last_n if last_n >= 0 else _WINDOW, _WINDOW)
        self._guard = None
        if not sampling.dry_multiplier and sampling.repeats is OnRepeat.DRY:
            self._guard = RepetitionGuard(piece)
        breakers = [breaker.encode() for breaker in sampling.dry_sequence_breakers]

        @lru_cache(maxsize=_WINDOW)
        def breaks(token: int) -> bool:
            data = piece(token) if token >= 0 else b""
            return not data or any(breaker in data for breaker in breakers)

        self._breaks = breaks
        self._text = np.zeros(2 * _WINDOW + 64, np.int64)
        self._end = 0
        self._since_break = 0
        self._append(prompt[-self._last_n :] if self._last_n else ())
        self._drafted: list[int] = []

    def propose(self, logits: Floats) -> Proposal:
        """Summarizes penalized logits, as the target will penalize its own."""
        undo = self._penalize(logits, self._drafted)
        proposal = self._inner.propose(logits)
        _restore(logits, undo)
        return proposal

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draws with the inner sampler."""
        token = self._inner.draw(proposal, draft)
        self._drafted.append(token)
        return token

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Verifies on penalized logits with the inner sampler; restores them afterwards."""
        undo = [self._penalize(row, draft.tokens[:i]) for i, row in enumerate(logits)]
        accepted, next_token = self._inner.accept(logits, draft)
        for row, changed in zip(logits, undo, strict=True):
            _restore(row, changed)
        self._drafted.clear()
        chosen = (*draft.tokens[:accepted], next_token)
        if self._guard:
            for token in chosen:
                self._guard.read(token)
        self._append(chosen)
        return accepted, next_token

    def _append(self, tokens: Sequence[int]) -> None:
        if self._end + len(tokens) > self._text.size - 64:  # room for a draft
            self._text[:_WINDOW] = self._text[self._end - _WINDOW : self._end]
            self._end = _WINDOW
        for token in tokens:
            self._text[self._end] = token
            self._end += 1
            self._since_break = 0 if self._breaks(token) else self._since_break + 1

    def _penalize(self, logits: Floats, drafted: Sequence[int]) -> tuple[NDArray[np.intp], Floats]:
        """Penalizes a row in place.

        Args:
            logits: [n_vocab].
            drafted: draft tokens before its position.

        Returns:
            Ids of the changed entries, and their values before.
        """
        repeated = self._repeated(drafted)
        ids = np.array([i for i in repeated if 0 <= i < logits.size], np.intp)
        before = logits[ids]
        with np.errstate(over="ignore"):
            excess = np.array([repeated[i] for i in ids.tolist()], np.float64) - self._allowed
            penalty = np.minimum(self._multiplier * self._base**excess, _MAX_PENALTY)
        logits[ids] = before - penalty
        return ids, before

    def _repeated(self, drafted: Sequence[int]) -> dict[int, int]:
        """Tokens that would continue a repetition, with its length in tokens."""
        if self._guard and not self._guard.turns(drafted):
            return {}
        end, since = self._end, self._since_break
        for token in drafted:
            self._text[end] = token
            end += 1
            since = 0 if self._breaks(token) else since + 1
        text = self._text[max(0, end - self._last_n) : end]
        longest = min(since, _LONGEST, text.size - 1)
        if longest < self._allowed:
            return {}
        found: dict[int, int] = {}
        ends = (text[:-1] == text[-1]).nonzero()[0]
        for length in range(1, longest + 1):
            if length >= self._allowed:
                for token in text[ends + 1].tolist():
                    if not self._breaks(token):
                        found[token] = length
            ends = ends[ends >= length]
            ends = ends[text[ends - length] == text[-1 - length]] if length < text.size else ends
            if not ends.size:
                break
        return found


def _restore(logits: Floats, changed: tuple[NDArray[np.intp], Floats]) -> None:
    ids, before = changed
    logits[ids] = before
