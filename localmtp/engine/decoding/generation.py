"""One answer in the decode loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.trace import Trace
from localmtp.engine.events import (
    Channel,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Piece,
    Prefilled,
)
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import DraftPolicy, RoundPlan
from localmtp.engine.sampling.near_ties import first_near_tie
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import NO_DRAFT, Draft, Sampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer


def _never() -> bool:
    return False


@dataclass(slots=True, eq=False)
class GenerationRequest:
    """An answer to generate. None leaves the choice to the loop."""

    prompt: Sequence[int]
    """Token ids: at least one, fewer than a sequence has positions."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n_draft: int | None = None
    """Draft length; 0 for no drafting, None for automatic pacing."""
    max_tokens: int | None = None
    """Length limit of the answer; the context is another."""
    channel: Channel = Channel.ANSWER
    """Channel of the first token: a resumed answer may begin within a thought."""
    tool_calls: bool = False
    """Report tool calls in a channel of their own; see `Detokenizer`."""
    near_tie: float = 0.0
    """Greedy choices whose two best logits are closer than this are made again, from a pass of one
    row. Not with a `sampler`, which may have state."""
    cancelled: Callable[[], bool] = _never
    """Called between passes, on the generating thread."""
    sampler: Sampler | None = None
    """Chooses tokens in place of the one that `sampling` describes."""
    policy: DraftPolicy | None = None
    """Decides on draft lengths in place of the one that `n_draft` selects."""
    trace: Trace | None = None
    """Records every round."""
    counters: Counters | None = None
    """Counts in place of new counters; see `DecodeLoop.new_counters`."""


class Generation:
    """The state of one answer between passes.

    Args:
        slot: its sequence, sampler and draft policy.
        detokenizer: turns its tokens into text.
        counters: of its statistics.
        request: what was asked for.
    """

    def __init__(
        self,
        slot: DraftSlot,
        detokenizer: Detokenizer,
        counters: Counters,
        request: GenerationRequest,
    ) -> None:
        self.slot = slot
        self.sequence = slot.sequence
        self.counters = counters
        self.reason: FinishReason | None = None
        """Why the answer ended; None before that."""
        self._detokenizer = detokenizer
        self._max_tokens = request.max_tokens or self.sequence.context.n_ctx
        self._cancelled = request.cancelled
        self._near_tie = 0.0 if request.sampler else request.near_tie

    @property
    def ended(self) -> bool:
        """Whether the answer is complete, cut or cancelled."""
        if self.reason is None and self._cancelled():
            self.reason = FinishReason.CANCELLED
        return self.reason is not None

    def stop(self) -> None:
        """Ends the answer as complete, as a stop string does."""
        self.reason = FinishReason.STOP

    def prefilled(self, done: int) -> Prefilled:
        """Reports prefill progress: `done` prompt tokens are in the cache."""
        counters = self.counters
        counters.context_used = done
        return Prefilled(done, counters.prompt_tokens, counters.reused_tokens)

    def choose_first(self, logits: Floats) -> Generated:
        """Chooses the first token.

        Args:
            logits: [1, n_vocab] after the prompt.

        Raises:
            LocalmtpError: the sampler cannot choose.
        """
        counters, slot = self.counters, self.slot
        counters.prefilled = perf_counter()
        _, slot.pending = slot.sampler.judge(logits, NO_DRAFT)
        counters.first_token = counters.last_token = perf_counter()
        return self._read((slot.pending,), (Origin.PREFILL,), ())

    def begin_round(self, max_draft: int, plan: RoundPlan) -> DraftSlot:
        """Clears the draft and gives the policy its limit, at most `max_draft` tokens."""
        slot = self.slot
        slot.draft = Draft()
        context_left = self.sequence.context.n_ctx - len(self.sequence.tokens) - 1
        tokens_left = self._max_tokens - self.counters.completion_tokens - 1
        slot.policy.begin_round(max(0, min(max_draft, context_left, tokens_left)), plan)
        return slot

    def judge(self, logits: Floats) -> tuple[int, int, bool]:
        """Verifies the draft of the round.

        Args:
            logits: [drafted + 1, n_vocab].

        Returns:
            Number of accepted tokens, the token after them, and whether that one is a near-tie, to
            be chosen again by `settle_near_tie`.

        Raises:
            LocalmtpError: the sampler cannot choose.
        """
        draft = self.slot.draft
        accepted, follower = self.slot.sampler.judge(logits, draft)
        if self._near_tie and draft.tokens:
            tie = first_near_tie(logits[: accepted + 1], self._near_tie)
            if tie is not None:
                return tie, follower, True
        return accepted, follower, False

    def commit(self, accepted: int, row: int) -> None:
        """Keeps the accepted drafts in the cache and counts the round.

        Args:
            accepted: number of accepted draft tokens.
            row: see `TargetSequence.commit`.
        """
        slot, sequence, counters = self.slot, self.sequence, self.counters
        draft = slot.draft
        sequence.commit(slot.pending, draft.tokens[:accepted], len(draft.tokens), row)
        counters.count_round(draft.steps, len(draft.tokens), accepted)
        counters.context_used = len(sequence.tokens)
        counters.threads = sequence.context.threads.count

    def settle_near_tie(self) -> int:
        """Chooses the pending token again, from a pass of one row."""
        began = perf_counter()
        logits = self.sequence.redecode_last()
        self.counters.verify_s += perf_counter() - began
        self.counters.count_round(0, 0, 0)
        return self.slot.sampler.judge(logits, NO_DRAFT)[1]

    def emit(self, accepted: int, follower: int) -> Generated:
        """Reads the tokens of a round.

        Args:
            accepted: number of accepted draft tokens.
            follower: the target's token after them, pending from now on.
        """
        slot = self.slot
        slot.pending = follower
        drafted = slot.draft.tokens
        origins = (Origin.DRAFT,) * accepted + (Origin.TARGET,)
        event = self._read([*drafted[:accepted], follower], origins, drafted)
        self.counters.last_token = perf_counter()
        return event

    def finish(self) -> Finished:
        """The last event."""
        self.counters.drafting = self.slot.policy.state
        return Finished(self.reason or FinishReason.STOP, self.counters.snapshot())

    def _read(
        self, tokens: Sequence[int], origins: Sequence[Origin], drafted: Sequence[int]
    ) -> Generated:
        """Detokenizes up to the token that ends the turn, if there is one."""
        pieces: list[Piece] = []
        context, counters = self.sequence.context, self.counters
        for token, origin in zip(tokens, origins, strict=True):
            if context.vocab.ends_generation(token):
                self.reason = FinishReason.STOP
                break
            pieces.append(self._detokenizer.read(token, origin))
        counters.completion_tokens += len(pieces)
        full = len(self.sequence.tokens) >= context.n_ctx
        if self.reason is None and (full or counters.completion_tokens >= self._max_tokens):
            self.reason = FinishReason.LENGTH
        return Generated(tuple(pieces), tuple(drafted))
