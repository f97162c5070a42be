"""One answer in the decode loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.trace import Trace
from localmtp.engine.events import (
    Channel,
    Edge,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Piece,
    Prefilled,
)
from localmtp.engine.llama import Floats
from localmtp.engine.markup.tag_detokenizer import TagDetokenizer
from localmtp.engine.media import PlacedMedia
from localmtp.engine.pacing import DraftPolicy, RoundPlan
from localmtp.engine.sampling.distribution import NO_DRAFT
from localmtp.engine.sampling.params import OnRepeat, SamplingParams
from localmtp.engine.sampling.repetition import RepetitionGuard
from localmtp.engine.sampling.sampler import Sampler
from localmtp.engine.sampling.thought_limit import ThoughtLimitSampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer
from localmtp.errors import LocalmtpError


def _never() -> bool:
    return False


@dataclass(slots=True, eq=False)
class GenerationRequest:
    """An answer to generate; the loop chooses values for fields that are None."""

    prompt: Sequence[int]
    """Token ids: at least one, fewer than a sequence has positions."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n_draft: int | None = None
    """Draft length; 0 for no drafting, None for automatic pacing."""
    max_tokens: int | None = None
    """Maximum length of the answer, which the context limits too."""
    channel: Channel = Channel.ANSWER
    """Channel of the first token: a resumed answer may start inside a thought."""
    tool_calls: bool = False
    """Report tool calls in a separate channel; see `Detokenizer`."""
    think_budget: int | None = None
    """Maximum length of thoughts in tokens; at the limit they are closed."""
    cancelled: Callable[[], bool] = _never
    """Called between passes, on the generating thread."""
    sampler: Sampler | None = None
    """Replaces the sampler that `sampling` describes."""
    around: Callable[[Sampler], Sampler] | None = None
    """Wraps the sampler that was chosen, of logits or of a device's rows: for measurements."""
    policy: DraftPolicy | None = None
    """Replaces the draft policy that `n_draft` selects."""
    trace: Trace | None = None
    """Records every round."""
    counters: Counters | None = None
    """Replaces new counters; see `DecodeLoop.new_counters`."""
    media: Sequence[PlacedMedia] = ()
    """Images and sounds whose rows the prompt has, in its order."""


class Generation:
    """The state of one answer between passes.

    Args:
        slot: its sequence, sampler and draft policy.
        detokenizer: turns its tokens into text.
        counters: counters of its statistics.
        request: the answer to generate.
        limit: reports whether a thought was cut; None without a thinking budget.
        rows: the target's rows where they are chosen on the device; None: logits.
    """

    def __init__(
        self,
        slot: DraftSlot,
        detokenizer: Detokenizer | TagDetokenizer,
        counters: Counters,
        request: GenerationRequest,
        limit: ThoughtLimitSampler | None = None,
        rows: Any = None,
    ) -> None:
        self.slot = slot
        self.rows = rows
        """The target's rows where they are chosen on the device, see `DeviceRows`."""
        self.sequence = slot.sequence
        self.counters = counters
        self.reason: FinishReason | None = None
        """Reason why the answer ended; None before that."""
        self.accepted = 0
        """Accepted draft tokens of the round."""
        self.error: LocalmtpError | None = None
        """Error of the sampler, if it could not choose a token."""
        self._next_token = -1  # the token after the accepted ones
        self._threads = self.sequence.context.threads
        self._detokenizer = detokenizer
        self._n_ctx = self.sequence.context.n_ctx
        self._max_tokens = request.max_tokens or self._n_ctx
        self._ends_generation = self.sequence.context.vocab.ends_generation
        self._cancelled = request.cancelled
        sampling = request.sampling
        self._limit = limit
        slot.guard = slot.sequence.context.replays
        stops = sampling.repeats is OnRepeat.STOP
        self._guard = RepetitionGuard(self.sequence.context.vocab.piece) if stops else None

    def check_cancelled(self) -> bool:
        """Ends the answer if it was cancelled; returns whether it has ended, for any reason."""
        if self.reason is None and self._cancelled():
            self.reason = FinishReason.CANCELLED
        return self.reason is not None

    def stop(self) -> None:
        """Ends the answer as complete, for example at a stop string."""
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
        _, slot.pending = slot.sampler.accept(logits, NO_DRAFT)
        counters.first_token = counters.last_token = perf_counter()
        return self._read((slot.pending,), (Origin.PREFILL,), ())

    def begin_round(self, max_draft: int, plan: RoundPlan) -> DraftSlot:
        """Clears the draft and gives the policy its limit, at most `max_draft` tokens."""
        slot = self.slot
        slot.draft = NO_DRAFT
        context_left = self._n_ctx - len(self.sequence.tokens) - 1
        tokens_left = self._max_tokens - self.counters.completion_tokens - 1
        slot.policy.begin_round(min(max_draft, context_left, tokens_left), plan)
        return slot

    def accept(self, logits: Any, row: int) -> int:
        """Verifies the draft of the round; `accepted` or `error` is the result.

        Args:
            logits: [rows, n_vocab] of the pass.
            row: row of the pending token.

        Returns:
            Row after those of this answer.
        """
        slot = self.slot
        after = row + len(slot.draft.tokens) + 1
        try:
            self.accepted, self._next_token = slot.sampler.accept(logits[row:after], slot.draft)
        except LocalmtpError as error:
            self.error = error
        return after

    def commit(self, row: int) -> None:
        """Keeps the accepted drafts in the cache and counts the round.

        Args:
            row: row of the pending token in the pass.
        """
        slot, sequence, counters, accepted = self.slot, self.sequence, self.counters, self.accepted
        draft = slot.draft
        drafted = len(draft.tokens)
        sequence.commit(slot.pending, draft.tokens[:accepted], drafted, row)
        counters.count_round(draft.steps, drafted, accepted)
        counters.context_used = len(sequence.tokens)
        counters.threads = self._threads.count

    def emit(self) -> Generated:
        """Detokenizes the accepted drafts of the round and the target's token after them."""
        slot, accepted = self.slot, self.accepted
        slot.pending = self._next_token
        drafted = slot.draft.tokens
        origins = (Origin.DRAFT,) * accepted + (Origin.TARGET,)
        event = self._read([*drafted[:accepted], self._next_token], origins, drafted)
        self.counters.last_token = perf_counter()
        return event

    def finish(self) -> Finished:
        """Returns the last event."""
        self.counters.drafting = self.slot.policy.state
        self.counters.thought_cut = self._limit is not None and self._limit.cut
        return Finished(self.reason or FinishReason.STOP, self.counters.snapshot())

    def _read(
        self, tokens: Sequence[int], origins: Sequence[Origin], drafted: Sequence[int]
    ) -> Generated:
        """Detokenizes up to the token that ends the turn, if there is one."""
        pieces: list[Piece] = []
        counters, guard = self.counters, self._guard
        for token, origin in zip(tokens, origins, strict=True):
            if self._ends_generation(token):
                self.reason = FinishReason.STOP
                break
            piece = self._detokenizer.read(token, origin)
            pieces.append(piece)
            if piece.channel is Channel.THOUGHT:
                counters.thought_tokens += piece.edge is Edge.NONE
            if guard is not None and guard.read(token):
                self.reason = FinishReason.REPEAT
                counters.cycle_tokens = guard.cycle
                break
        counters.completion_tokens += len(pieces)
        full = len(self.sequence.tokens) >= self._n_ctx
        if self.reason is None and (full or counters.completion_tokens >= self._max_tokens):
            self.reason = FinishReason.LENGTH
        if self.reason is not None:
            rest = self._detokenizer.rest(cut=self.reason is not FinishReason.STOP)
            pieces += [rest] if rest else []
        return Generated(tuple(pieces), tuple(drafted))
