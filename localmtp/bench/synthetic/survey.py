"""Measures the cost of a round by draft length.

The engine's decode loop is timed with a policy that rotates through all draft lengths, and a
sampler that does the work of verification but accepts at random: a drafter with random weights is
never right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.llama import Vocab
from localmtp.engine.pacing import RoundPlan
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler

_PROMPT = 128
"""Tokens of the prompt: about those of a question with its template."""

_ANSWER = 256
"""Tokens of an answer, as in `bench run`: passes get slower as the context fills."""

_ACCEPTED = 0.7
"""Acceptance rate while measuring; it determines how often the cache is rolled back."""

_BLOCK, _BLOCK_S = 2, 0.05
"""Rounds and seconds per draft length before the next one. Only rounds after one of the same length
count: libllama rebuilds its graph when the number of rows changes, and small models then have their
weights in the caches."""

_MOST_CYCLES = 20
"""Maximum number of blocks per draft length; more do not improve a mean."""


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """Mean seconds of a round by draft length, starting with 0."""

    draft_s: tuple[float, ...]
    verify_s: tuple[float, ...]
    rest_s: tuple[float, ...]
    """Sampling, rolling back, detokenizing."""
    rounds: int
    """Number of measured rounds of each length, at least."""

    def round_s(self, length: int) -> float:
        """Return the total seconds of a round."""
        return self.draft_s[length] + self.verify_s[length] + self.rest_s[length]


class _RotatingLengths:
    """A draft policy that rotates through all lengths and times the rounds."""

    automatic = False
    state = "on"

    def __init__(self, lengths: Sequence[int], budget_s: float) -> None:
        self._lengths = lengths
        self._ends = perf_counter() + budget_s
        self._random = np.random.default_rng(0)
        self._queue: list[int] = []
        self._cycles = 0
        self.rounds: list[tuple[int, float, float, float]] = []
        """Draft length, then seconds of drafting, of verification, and in all."""
        self._last = -1  # length of the previous round
        self._changed, self._counted = (
            0.0,
            0,
        )  # time of the last change of length, and rounds counted since
        # The current round:
        self._left = self._steps = 0
        self._began = 0.0
        self._settled: tuple[int, float, float] | None = None

    @property
    def done(self) -> bool:
        """Whether enough rounds were measured."""
        late = self._cycles > 1 and perf_counter() > self._ends
        return late or self._cycles > _MOST_CYCLES

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """End the last round and begin the next."""
        now = perf_counter()
        if self._settled is not None and self._steps == self._last == self._queue[-1]:
            self.rounds.append((*self._settled, now - self._began))
            self._counted += 1
        self._last = self._steps if self._settled else -1
        if self._counted >= _BLOCK and now - self._changed >= _BLOCK_S:
            self._queue.pop()
            self._changed, self._counted = now, 0
        if not self._queue:
            self._cycles += 1
            order = self._random.permutation(len(self._lengths))
            self._queue = [self._lengths[i] for i in order]
        self._left = min(self._queue[-1], limit)
        self._steps, self._settled, self._began = 0, None, now

    def copy_length(self, match: int, available: int) -> int:
        """Return 0: nothing is copied."""
        return 0

    def should_draft(self) -> bool:
        """Return whether the length is not reached."""
        return self._steps < self._left

    def should_verify(self, confidence: float) -> bool:
        """Return True."""
        self._steps += 1
        return True

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Record the seconds."""
        self._settled = (self._steps, draft_s, verify_s)

    def pause(self) -> None:
        """Discard the last round: the time until the next one does not belong to it."""
        self._settled = None


class _RandomTokens:
    """Tokens that do not end an answer."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self.random = np.random.default_rng(0)

    def token(self) -> int:
        """Return a random token."""
        while True:
            token = int(self.random.integers(self._vocab.size))
            if not self._vocab.ends_generation(token):
                return token


class _RandomSampler:
    """Does the work of greedy decoding, but accepts and chooses at random.

    Args:
        tokens: that it chooses.
        sampler: proposes; of logits, or of a device's rows.
    """

    def __init__(self, tokens: _RandomTokens, sampler: Sampler) -> None:
        self._token, self._random = tokens.token, tokens.random
        self.propose = sampler.propose

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Draft a random token."""
        token = self._token()
        draft.tokens.append(token)
        return token

    def accept(self, logits: Any, draft: Draft) -> tuple[int, int]:
        """Accept a random part; as many rows are read as verification needs."""
        accepted = 0
        while accepted < len(draft.tokens) and self._random.random() < _ACCEPTED:
            _read(logits[accepted])
            accepted += 1
        _read(logits[accepted])
        return accepted, self._token()


def _read(row: Any) -> None:
    """Look for the argmax of logits; a device has found it."""
    if isinstance(row, np.ndarray):
        row.argmax()


def survey(pair: Pair, lengths: Sequence[int], budget_s: float) -> RoundCosts:
    """Measure the cost of rounds.

    Args:
        pair: loaded, with a context of at least 512 tokens.
        lengths: draft lengths 0, 1, 2 ….
        budget_s: time limit in seconds; every length is measured a few times in any case.
    """
    loop = pair.decode_loop()
    rotation, tokens = _RotatingLengths(lengths, budget_s), _RandomTokens(pair.target.vocab)
    prompt = [*pair.target.vocab.opening, *(tokens.token() for _ in range(_PROMPT))]
    while not rotation.done:
        request = GenerationRequest(
            prompt,
            SamplingParams(temperature=0.0),
            max_tokens=_ANSWER,
            cancelled=lambda: rotation.done,
            around=partial(_RandomSampler, tokens),
            policy=rotation,
        )
        for _ in loop.run(request):
            pass
        rotation.pause()
    parts = [[r[1:] for r in rotation.rounds if r[0] == n] for n in lengths]
    return RoundCosts(
        draft_s=tuple(_mean([draft for draft, _, _ in part]) for part in parts),
        verify_s=tuple(_mean([verify for _, verify, _ in part]) for part in parts),
        rest_s=tuple(_mean([w - d - v for d, v, w in part]) for part in parts),
        rounds=min(map(len, parts)),
    )


def _mean(seconds: Sequence[float]) -> float:
    """Return the mean without the fastest and the slowest tenth, which excludes stalls."""
    cut = len(seconds) // 10
    return fmean(sorted(seconds)[cut : len(seconds) - cut])
