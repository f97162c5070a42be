"""Faults, planted through the engine's public constructors: what verify has to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from localmtp.engine.decoding.drafter import MTPDrafter
from localmtp.engine.decoding.target import Target
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import Pacing
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import (
    NO_DRAFT,
    Draft,
    Greedy,
    Sampler,
    Stochastic,
    distribution,
)


class NoisyTwin:
    """A drafter that is right about as often as not, whichever files are installed.

    Args:
        target: whose tokens it goes on from.
        twin: another context of the same model, from which it drafts.
    """

    def __init__(self, target: Target, twin: Target) -> None:
        self._target, self._twin = target, twin
        self._noise = np.random.default_rng(1).normal(0, 4.0, twin.vocab.size).astype(np.float32)

    def propose(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft:
        draft = Draft()
        while pacing.go_on():
            draft.steps += 1
            list(self._twin.prefill([*self._target.tokens, last, *draft.tokens]))
            proposal = sampler.propose(self._twin.logits()[0] + self._noise)
            if not pacing.keep(proposal.confidence):
                break
            sampler.draw(proposal, draft)
        return draft

    def close(self) -> None:
        pass


class GullibleGreedy(Greedy):
    """Accepts every draft."""

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        return len(draft.tokens), int(logits[len(draft.tokens)].argmax())


class GreedyOneRowOff(Greedy):
    """Judges each draft by the row after the right one."""

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        if not draft.tokens:
            return super().judge(logits, draft)
        return super().judge(logits[1:], Draft(draft.tokens[:-1]))


class _Faulty(Stochastic):
    """Random numbers of its own, for rules of its own."""

    def __init__(self, sampling: SamplingParams) -> None:
        super().__init__(sampling)
        self.sampling = sampling
        self.random = np.random.default_rng(sampling.seed)

    def bonus(self, logits: Floats) -> int:
        return super().judge(logits, NO_DRAFT)[1]


class Gullible(_Faulty):
    """Accepts every draft."""

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        return len(draft.tokens), self.bonus(logits[len(draft.tokens) :])


class AcceptsByTargetAlone(_Faulty):
    """Accepts with probability p instead of p/q; the residual is right."""

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = distribution(logits[row], self.sampling)
            if self.random.random() >= p.of(drafted):
                rest = p.minus(q)
                return row, int(self.random.choice(rest.ids, p=rest.probs))
        return len(draft.tokens), self.bonus(logits[len(draft.tokens) :])


class NoResidual(_Faulty):
    """Replaces a rejected token from p instead of the residual."""

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = distribution(logits[row], self.sampling)
            if self.random.random() * q.of(drafted) >= p.of(drafted):
                return row, self.bonus(logits[row:])
        return len(draft.tokens), self.bonus(logits[len(draft.tokens) :])


class Cold(Stochastic):
    """Samples at half the temperature, drafting or not."""

    def __init__(self, sampling: SamplingParams) -> None:
        super().__init__(replace(sampling, temperature=sampling.temperature / 2))


class NeverRollsBack(Target):
    """Keeps rejected drafts in the cache, and goes on behind them."""

    _draft: Sequence[int] = ()

    def verify(self, last: int, draft: Sequence[int]) -> Floats:
        self._draft = draft
        return super().verify(last, draft)

    def commit(self, last: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        super().commit(last, accepted, len(accepted), row)
        self.tokens.extend(self._draft[len(accepted) :])


class KeepsOneRejected(Target):
    """Rolls back one row too few, and goes on behind it."""

    _draft: Sequence[int] = ()

    def verify(self, last: int, draft: Sequence[int]) -> Floats:
        self._draft = draft
        return super().verify(last, draft)

    def commit(self, last: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        super().commit(last, accepted, len(accepted), row)
        self.tokens.extend(self._draft[len(accepted) : len(accepted) + 1])
        self.context.forget_from(len(self.tokens))


class FirstHiddenRow(Target):
    """Hands the drafter the first row of a pass, whatever was accepted."""

    def commit(self, last: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        super().commit(last, accepted, drafted, row)
        np.copyto(self.hidden, self.context.hidden()[0])


class StaleHiddenRow(Target):
    """Hands the drafter the row that was there before the pass."""

    def commit(self, last: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        before = self.hidden.copy()
        super().commit(last, accepted, drafted, row)
        np.copyto(self.hidden, before)


class DeafDrafter(MTPDrafter):
    """Drafts without the target's hidden row."""

    def propose(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft:
        self._target.hidden[:] = 1.0
        return super().propose(last, sampler, pacing)
