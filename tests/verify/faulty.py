"""Faults for `verify` to find, planted through the engine's public constructors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from localmtp.engine.decoding.drafter import DraftSlot, MTPDrafter
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.drafters.prompt_lookup import NoDraftSteps
from localmtp.engine.llama import Floats
from localmtp.engine.sampling.distribution import NO_DRAFT, Draft
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Greedy
from localmtp.engine.sampling.speculative import SpeculativeSampler
from localmtp.engine.sampling.truncation import distribution


class NoisyTwin(NoDraftSteps):
    """Drafts from the target itself with noise on its logits: about half is accepted.

    It has a KV cache of its own, and records what `prefilled` and `committed` report.

    Args:
        twin: a sequence of another context of the target's model, on which it drafts.
    """

    context = None

    def __init__(self, twin: TargetSequence) -> None:
        self._twin = twin
        self._noise = np.random.default_rng(1).normal(0, 4.0, twin.context.vocab.size)
        self.reported: list[int] = []
        """The target's tokens, from `prefilled` and `committed` alone."""
        self.misled = False
        """Whether they ever differed from the target's own."""

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        for slot in slots:
            draft = slot.draft = Draft()
            tokens = slot.sequence.tokens
            self.misled |= self.reported != tokens
            while slot.policy.should_draft():
                draft.steps += 1
                logits = prefill(self._twin, [*tokens, slot.pending, *draft.tokens])[0]
                proposal = slot.sampler.propose(logits + self._noise.astype(np.float32))
                if not slot.policy.should_verify(proposal.confidence):
                    break
                slot.sampler.draw(proposal, draft)

    def prefilled(self, sequence: TargetSequence, begin: int) -> None:
        self.reported[begin:] = sequence.tokens[begin:]

    def committed(self, slot: DraftSlot, accepted: int) -> None:
        self.reported += [slot.pending, *slot.draft.tokens[:accepted]]


class GullibleGreedy(Greedy):
    """Accepts every draft."""

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        return len(draft.tokens), int(logits[len(draft.tokens)].argmax())


class GreedyOneRowOff(Greedy):
    """Verifies each draft token with the row after the right one."""

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        if not draft.tokens:
            return super().accept(logits, draft)
        return super().accept(logits[1:], Draft(draft.tokens[:-1]))


class _Faulty(SpeculativeSampler):
    """A sampler with a random generator for its own acceptance rule."""

    def __init__(self, sampling: SamplingParams) -> None:
        super().__init__(sampling)
        self.sampling = sampling
        self.random = np.random.default_rng(sampling.seed)

    def bonus(self, logits: Floats) -> int:
        return super().accept(logits, NO_DRAFT)[1]


class Gullible(_Faulty):
    """Accepts every draft."""

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        return len(draft.tokens), self.bonus(logits[len(draft.tokens) :])


class AcceptsByTargetAlone(_Faulty):
    """Accepts with probability p instead of p/q; the residual is right."""

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = distribution(logits[row], self.sampling)
            if self.random.random() >= p.of(drafted):
                rest = p.minus(q)
                return row, int(self.random.choice(rest.ids, p=rest.probs))
        return len(draft.tokens), self.bonus(logits[len(draft.tokens) :])


class NoResidual(_Faulty):
    """Replaces a rejected token from p instead of the residual."""

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        for row, (drafted, q) in enumerate(zip(draft.tokens, draft.distributions, strict=True)):
            p = distribution(logits[row], self.sampling)
            if self.random.random() * q.of(drafted) >= p.of(drafted):
                return row, self.bonus(logits[row:])
        return len(draft.tokens), self.bonus(logits[len(draft.tokens) :])


class Cold(SpeculativeSampler):
    """Samples at half the temperature, drafting or not."""

    def __init__(self, sampling: SamplingParams) -> None:
        super().__init__(replace(sampling, temperature=sampling.temperature / 2))


class NeverRollsBack(TargetSequence):
    """Leaves rejected drafts in the cache, and continues behind them."""

    def commit(self, pending: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        super().commit(pending, accepted, len(accepted), row)
        self.tokens.extend([pending] * (drafted - len(accepted)))


class KeepsOneRejected(TargetSequence):
    """Rolls back one row too few, and continues behind it."""

    def commit(self, pending: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        super().commit(pending, accepted, len(accepted), row)
        self.tokens.extend([pending] * min(1, drafted - len(accepted)))
        self.context.cache.remove_from(len(self.tokens))


class FirstHiddenRow(TargetSequence):
    """Passes the drafter the first row of a pass, whatever was accepted."""

    def commit(self, pending: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        super().commit(pending, accepted, drafted, row)
        np.copyto(self.hidden, self.context.hidden()[0])


class StaleHiddenRow(TargetSequence):
    """Passes the drafter the hidden state from before the pass."""

    def commit(self, pending: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        before = self.hidden.copy()
        super().commit(pending, accepted, drafted, row)
        np.copyto(self.hidden, before)


class DeafDrafter(MTPDrafter):
    """Drafts without the target's hidden state."""

    def propose(self, slots: Sequence[DraftSlot]) -> None:
        for slot in slots:
            slot.sequence.hidden[:] = 1.0
        super().propose(slots)
