"""What a round of drafting costs on this machine, by the length of the draft.

The engine's own loop is timed, with a pacing that goes through all lengths in changing order, and
a sampler that does the work of judging and then accepts by chance: random weights agree on nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter

import numpy as np

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.llama import Floats, Vocab
from localmtp.engine.pacing import RoundPlan
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.sampler import Draft, Greedy, Proposal

_PROMPT = 128
"""Tokens: about as many as a question with its template."""

_ANSWER = 256
"""Tokens, as `bench` measures them: a pass costs more as the context fills."""

_ACCEPTED = 0.7
"""Of drafts, while measuring. It decides how often something is rolled back, which is cheap."""

_BLOCK, _BLOCK_S = 2, 0.05
"""A length is kept for so many rounds and seconds. A round counts after another of its length:
libllama builds its graph anew when the number of rows changes, and small models find their weights
in the caches after that."""

_MOST_CYCLES = 20
"""Blocks of every length: more than that do not sharpen a mean. One is measured in any case."""


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """Seconds of a round by the length of its draft, 0 included; means."""

    draft_s: tuple[float, ...]
    verify_s: tuple[float, ...]
    rest_s: tuple[float, ...]
    """Judging, rolling back, reading the text."""
    rounds: int
    """How often every length was measured."""

    def round_s(self, length: int) -> float:
        """All of it."""
        return self.draft_s[length] + self.verify_s[length] + self.rest_s[length]


class _Rotation:
    """Every length in turn, timed."""

    automatic = False
    state = "on"

    def __init__(self, lengths: Sequence[int], budget_s: float) -> None:
        self._lengths = lengths
        self._ends = perf_counter() + budget_s
        self._random = np.random.default_rng(0)
        self._queue: list[int] = []
        self._cycles = 0
        self.rounds: list[tuple[int, float, float, float]] = []
        """Length, then seconds of drafting, verifying, and in all."""
        self._last = -1  # length of the round before
        self._changed, self._counted = 0.0, 0  # when the length was, and rounds that counted since
        # Of the running round:
        self._left = self._steps = 0
        self._began = 0.0
        self._settled: tuple[int, float, float] | None = None

    @property
    def done(self) -> bool:
        """Whether enough was measured."""
        late = self._cycles > 1 and perf_counter() > self._ends
        return late or self._cycles > _MOST_CYCLES

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Close the last round and open the next."""
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
        """Never."""
        return 0

    def should_draft(self) -> bool:
        """Until the length is reached."""
        return self._steps < self._left

    def should_verify(self, confidence: float) -> bool:
        """Always."""
        self._steps += 1
        return True

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Note the seconds."""
        self._settled = (self._steps, draft_s, verify_s)

    def pause(self) -> None:
        """What follows is no part of the last round, which is not counted."""
        self._settled = None


class _Chance(Greedy):
    """Does the work of greedy decoding, and then accepts and chooses by chance."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._random = np.random.default_rng(0)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """Any token."""
        token = self.token()
        draft.tokens.append(token)
        return token

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accept a part; as many rows are looked at as a verdict takes."""
        accepted = 0
        while accepted < len(draft.tokens) and self._random.random() < _ACCEPTED:
            logits[accepted].argmax()
            accepted += 1
        logits[accepted].argmax()
        return accepted, self.token()

    def token(self) -> int:
        """Any that does not end the answer."""
        while True:
            token = int(self._random.integers(self._vocab.size))
            if not self._vocab.ends_generation(token):
                return token


def survey(pair: Pair, lengths: Sequence[int], budget_s: float) -> RoundCosts:
    """Measure what rounds cost.

    Args:
        pair: loaded; its context has room for some hundred tokens.
        lengths: of drafts, from 0 on without gaps.
        budget_s: seconds after which it ends, once every length was measured a few times.
    """
    loop = pair.decode_loop()
    rotation, sampler = _Rotation(lengths, budget_s), _Chance(pair.target.vocab)
    prompt = [pair.target.vocab.bos, *(sampler.token() for _ in range(_PROMPT))]
    while not rotation.done:
        request = GenerationRequest(
            prompt,
            max_tokens=_ANSWER,
            cancelled=lambda: rotation.done,
            sampler=sampler,
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
    """Without the fastest and the slowest tenth: a stall is not what a round costs."""
    cut = len(seconds) // 10
    return fmean(sorted(seconds)[cut : len(seconds) - cut])
