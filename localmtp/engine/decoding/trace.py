"""Records the rounds of an answer, for `localmtp bench trace`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localmtp.engine.llama import Floats
from localmtp.engine.pacing import DraftPolicy, FixedPolicy, RoundPlan
from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.sampler import Sampler
from localmtp.limits import MAX_AUTO_DRAFT


@dataclass(frozen=True, slots=True)
class Round:
    """One round of drafting and verifying."""

    confidence: tuple[float, ...]
    """Confidence of each draft step, including a last one whose token was not verified."""
    drafted: int
    """Tokens verified."""
    accepted: int
    draft_s: float
    verify_s: float


Sink = Callable[[Round], None]


class Trace:
    """Records the rounds of answers.

    Args:
        sink: called with each round as it ends.
        full: draft the longest automatic length at every position and commit one token only, so
            that any policy can be replayed on the trace. This changes the speed, not the text.
    """

    def __init__(self, sink: Sink, *, full: bool = False) -> None:
        self._sink = sink
        self._full = full

    def watch(self, sampler: Sampler, policy: DraftPolicy) -> tuple[Sampler, DraftPolicy]:
        """Wraps the sampler and the policy of an answer."""
        if not self._full:
            return sampler, _TracedPolicy(policy, self._sink)
        single = _OneAtATime(sampler)
        return single, _TracedPolicy(FixedPolicy(MAX_AUTO_DRAFT), self._sink, single)


class _OneAtATime:
    """Verifies whole drafts and commits their first token only.

    That token is the accepted one or its correction, so the distribution of the output is
    unchanged.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.accepted = 0

    def propose(self, logits: Floats) -> Proposal:
        return self._sampler.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        return self._sampler.draw(proposal, draft)

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        self.accepted, next_token = self._sampler.accept(logits, draft)
        return 0, draft.tokens[0] if self.accepted else next_token


class _TracedPolicy:
    """A policy whose rounds are recorded."""

    def __init__(
        self, policy: DraftPolicy, sink: Sink, one_at_a_time: _OneAtATime | None = None
    ) -> None:
        self._policy = policy
        self.automatic = policy.automatic
        self._sink = sink
        self._one_at_a_time = one_at_a_time
        self._confidence: list[float] = []
        self._drafted = 0

    @property
    def state(self) -> str:
        return self._policy.state

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        self._confidence.clear()
        self._drafted = 0
        self._policy.begin_round(limit, plan)

    def copy_length(self, match: int, available: int) -> int:
        self._drafted = self._policy.copy_length(match, available)
        return self._drafted

    def should_draft(self) -> bool:
        return self._policy.should_draft()

    def should_verify(self, confidence: float) -> bool:
        self._confidence.append(confidence)
        verify = self._policy.should_verify(confidence)
        self._drafted += verify
        return verify

    def end_round(self, accepted: int, draft_s: float, verify_s: float) -> None:
        self._policy.end_round(accepted, draft_s, verify_s)
        if self._one_at_a_time is not None:
            accepted = self._one_at_a_time.accepted
        self._sink(Round(tuple(self._confidence), self._drafted, accepted, draft_s, verify_s))
