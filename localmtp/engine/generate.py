"""The loop: draft, verify, accept, roll back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter

from localmtp.engine.drafter import Drafter
from localmtp.engine.events import (
    Event,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Piece,
    Prefilled,
)
from localmtp.engine.exact import first_near_tie
from localmtp.engine.pacing import Pacing
from localmtp.engine.pieces import PieceReader
from localmtp.engine.sampling import NO_DRAFT, Sampler
from localmtp.engine.stats import MAX_DRAFT, Counters
from localmtp.engine.target import Target

Ending = Generator[Event, None, FinishReason | None]


@dataclass(slots=True)
class Generation:
    """One answer in the making: what it uses, all of it owned by others."""

    target: Target
    drafter: Drafter
    sampler: Sampler
    pacing: Pacing
    reader: PieceReader
    counters: Counters
    max_tokens: int
    """Longest answer; a full context ends it too."""
    cancelled: Callable[[], bool]
    """Asked between passes, on the generating thread."""
    near_tie: float = 0.0
    """Choices between logits closer than this are made again from a pass of one row."""

    def run(self, prompt: Sequence[int]) -> Iterator[Event]:
        """Prefill the prompt, then decode until something ends it.

        Args:
            prompt: token ids, at least one, fewer than the context has positions.

        Yields:
            `Prefilled` after each batch, `Generated` after each pass, `Finished` once.
        """
        reason = yield from self._prefill(prompt)
        if reason is None:
            reason = yield from self._decode()
        self.counters.drafting = self.pacing.state
        yield Finished(reason or FinishReason.STOP, self.counters.snapshot())

    def _prefill(self, prompt: Sequence[int]) -> Ending:
        counters = self.counters
        counters.prompt_tokens = total = len(prompt)
        steps = self.target.prefill(prompt)
        counters.reused_tokens = reused = next(steps)
        for done in chain((reused,), steps):
            counters.context_used = done
            yield Prefilled(done, total, reused)
            if self.cancelled():
                return FinishReason.CANCELLED
        counters.prefilled = perf_counter()
        return None

    def _decode(self) -> Ending:
        _, last = self.sampler.judge(self.target.logits(), NO_DRAFT)
        self.counters.first_token = self.counters.last_token = perf_counter()
        event, reason = self._read((last,), (Origin.PREFILL,), ())
        yield event
        while reason is None:
            if self.cancelled():
                return FinishReason.CANCELLED
            tokens, drafted = self._round(last)
            last = tokens[-1]
            origins = (Origin.DRAFT,) * (len(tokens) - 1) + (Origin.TARGET,)
            event, reason = self._read(tokens, origins, drafted)
            self.counters.last_token = perf_counter()
            yield event
        return reason

    def _round(self, last: int) -> tuple[list[int], list[int]]:
        """Draft, verify in one pass, keep what the target accepts.

        Args:
            last: the pending token, not in the cache yet.

        Returns:
            The new tokens (accepted drafts, then the target's own), and the draft.
        """
        counters, target = self.counters, self.target
        room = target.context.n_ctx - len(target.tokens) - 1
        wanted = self.max_tokens - counters.completion_tokens - 1
        began = perf_counter()
        self.pacing.begin(max(0, min(MAX_DRAFT, room, wanted)))
        draft = self.drafter.propose(last, self.sampler, self.pacing)
        proposed = perf_counter()
        logits = target.verify(last, draft.tokens)
        verified = perf_counter()
        accepted, follower = self.sampler.judge(logits, draft)
        tie = None
        if self.near_tie and draft.tokens:
            tie = first_near_tie(logits[: accepted + 1], self.near_tie)
        accepted = accepted if tie is None else tie
        judged = perf_counter()
        kept = draft.tokens[:accepted]
        target.commit(last, kept, len(draft.tokens))
        counters.draft_s += proposed - began
        counters.verify_s += verified - proposed
        counters.sample_s += judged - verified
        counters.count_round(draft.steps, len(draft.tokens), accepted)
        # A row costs its judgement too.
        self.pacing.settle(accepted, proposed - began, judged - proposed)
        counters.context_used = len(target.tokens)
        if tie is not None:
            follower = self._settle()
        return [*kept, follower], draft.tokens

    def _settle(self) -> int:
        """Choose the pending token again."""
        began = perf_counter()
        logits = self.target.again()
        self.counters.verify_s += perf_counter() - began
        self.counters.count_round(0, 0, 0)
        return self.sampler.judge(logits, NO_DRAFT)[1]

    def _read(
        self, tokens: Sequence[int], origins: Sequence[Origin], drafted: Sequence[int]
    ) -> tuple[Generated, FinishReason | None]:
        """Turn tokens into text, up to the one that ends the answer, if any does."""
        pieces: list[Piece] = []
        reason = None
        for token, origin in zip(tokens, origins, strict=True):
            if self.target.vocab.ends_generation(token):
                reason = FinishReason.STOP
                break
            pieces.append(self.reader.read(token, origin))
        counters = self.counters
        counters.completion_tokens += len(pieces)
        full = len(self.target.tokens) >= self.target.context.n_ctx
        if reason is None and (full or counters.completion_tokens >= self.max_tokens):
            reason = FinishReason.LENGTH
        return Generated(tuple(pieces), tuple(drafted)), reason
