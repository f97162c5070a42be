"""The loop: draft, verify, accept, roll back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from localmtp.engine.decoding.drafter import Drafter
from localmtp.engine.decoding.target import Target
from localmtp.engine.events import (
    Event,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Piece,
    Prefilled,
)
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import Pacing
from localmtp.engine.sampling.near_ties import first_near_tie
from localmtp.engine.sampling.sampler import NO_DRAFT, Draft, Sampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer
from localmtp.limits import MAX_DRAFT


@dataclass(slots=True, eq=False)
class Generation:
    """One answer in the making: what it uses, all of it owned by others."""

    target: Target
    drafter: Drafter
    sampler: Sampler
    pacing: Pacing
    reader: Detokenizer
    counters: Counters
    max_tokens: int
    """Longest answer; a full context ends it too."""
    cancelled: Callable[[], bool]
    """Asked between passes, on the generating thread."""
    near_tie: float = 0.0
    """Choices between logits closer than this are made again from a pass of one row."""

    last: int = field(init=False, default=-1)
    """The pending token: chosen, not in the cache yet."""
    reason: FinishReason | None = field(init=False, default=None)
    """Why the answer ended; None while it goes on."""

    def run(self, prompt: Sequence[int]) -> Iterator[Event]:
        """Prefill the prompt, then decode until something ends it.

        Args:
            prompt: token ids, at least one, fewer than a sequence has positions.

        Yields:
            `Prefilled` after each batch, `Generated` after each pass, `Finished` once.
        """
        steps = self.target.prefill(prompt)
        yield self.begin(len(prompt), next(steps))
        while not self.ended() and (done := next(steps, None)) is not None:
            yield self.progress(done)
        if not self.ended():
            yield self.first(self.target.logits())
        while not self.ended():
            yield self._round()
        yield self.finish()

    def begin(self, total: int, reused: int) -> Prefilled:
        """The prompt is about to be read.

        Args:
            total: tokens of it.
            reused: those that are in the cache.
        """
        self.counters.prompt_tokens, self.counters.reused_tokens = total, reused
        return self.progress(reused)

    def progress(self, done: int) -> Prefilled:
        """So many tokens of the prompt are in the cache."""
        counters = self.counters
        counters.context_used = done
        return Prefilled(done, counters.prompt_tokens, counters.reused_tokens)

    def first(self, logits: Floats) -> Generated:
        """Choose the first token.

        Args:
            logits: [1, n_vocab]: what follows the prompt.
        """
        counters = self.counters
        counters.prefilled = perf_counter()
        _, self.last = self.sampler.judge(logits, NO_DRAFT)
        counters.first_token = counters.last_token = perf_counter()
        return self._read((self.last,), (Origin.PREFILL,), ())

    def ended(self) -> bool:
        """Whether the answer is complete, cut or cancelled."""
        if self.reason is None and self.cancelled():
            self.reason = FinishReason.CANCELLED
        return self.reason is not None

    def begin_round(self, most: int = MAX_DRAFT) -> None:
        """Tell pacing how long the next draft can be, `most` at the most."""
        room = self.target.n_ctx - len(self.target.tokens) - 1
        wanted = self.max_tokens - self.counters.completion_tokens - 1
        self.pacing.begin(max(0, min(most, room, wanted)))

    def commit(self, draft: Draft, accepted: int, row: int = 0) -> None:
        """Keep what was accepted of a draft in the cache, and count the round.

        Args:
            draft: as it was verified.
            accepted: how many of its tokens are kept.
            row: see `Target.commit`.
        """
        target, counters = self.target, self.counters
        target.commit(self.last, draft.tokens[:accepted], len(draft.tokens), row)
        counters.count_round(draft.steps, len(draft.tokens), accepted)
        counters.context_used = len(target.tokens)
        counters.threads = target.threads.count

    def say(self, draft: Draft, accepted: int, follower: int) -> Generated:
        """What the round brought: the accepted tokens, and the target's own that follows."""
        self.last = follower
        tokens = [*draft.tokens[:accepted], follower]
        event = self._read(tokens, (Origin.DRAFT,) * accepted + (Origin.TARGET,), draft.tokens)
        self.counters.last_token = perf_counter()
        return event

    def finish(self) -> Finished:
        """The last event."""
        self.counters.drafting = self.pacing.state
        return Finished(self.reason or FinishReason.STOP, self.counters.snapshot())

    def _round(self) -> Generated:
        """Draft, verify in one pass, keep what the target accepts."""
        counters, target = self.counters, self.target
        began = perf_counter()
        self.begin_round()
        draft = self.drafter.propose(self.last, self.sampler, self.pacing)
        proposed = perf_counter()
        logits = target.verify(self.last, draft.tokens)
        verified = perf_counter()
        accepted, follower = self.sampler.judge(logits, draft)
        tie = None
        if self.near_tie and draft.tokens:
            tie = first_near_tie(logits[: accepted + 1], self.near_tie)
        accepted = accepted if tie is None else tie
        judged = perf_counter()
        counters.draft_s += proposed - began
        counters.verify_s += verified - proposed
        counters.sample_s += judged - verified
        # A row costs its judgement too.
        self.pacing.settle(accepted, proposed - began, judged - proposed)
        self.commit(draft, accepted)
        if tie is not None:
            follower = self._settle()
        return self.say(draft, accepted, follower)

    def _settle(self) -> int:
        """Choose the pending token again."""
        began = perf_counter()
        logits = self.target.again()
        self.counters.verify_s += perf_counter() - began
        self.counters.count_round(0, 0, 0)
        return self.sampler.judge(logits, NO_DRAFT)[1]

    def _read(
        self, tokens: Sequence[int], origins: Sequence[Origin], drafted: Sequence[int]
    ) -> Generated:
        """Turn tokens into text, up to the one that ends the answer, if any does."""
        pieces: list[Piece] = []
        for token, origin in zip(tokens, origins, strict=True):
            if self.target.vocab.ends_generation(token):
                self.reason = FinishReason.STOP
                break
            pieces.append(self.reader.read(token, origin))
        counters = self.counters
        counters.completion_tokens += len(pieces)
        full = len(self.target.tokens) >= self.target.n_ctx
        if self.reason is None and (full or counters.completion_tokens >= self.max_tokens):
            self.reason = FinishReason.LENGTH
        return Generated(tuple(pieces), tuple(drafted))
