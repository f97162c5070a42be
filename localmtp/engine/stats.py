"""Statistics of an answer: the only definition of every number that localmtp reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from time import perf_counter

from localmtp.engine.weight_reads import WeightReads
from localmtp.limits import MAX_DRAFT

PAUSED = "drafting would "
"""Beginning of the reason why automatic pacing does not draft at the moment."""

NOTHING_COPIED = "no repeats to copy yet"
"""Why nothing was drafted by copies from the context."""


@dataclass(slots=True)
class Counters:
    """Counters of one answer, updated by the decode loop; `snapshot` computes rates from them.

    Times are in seconds, on the monotonic clock.
    """

    load_s: float = 0.0
    context_size: int = 0
    threads: int = 0
    most_threads: int = 0
    drafting: str = "on"
    copies_only: bool = False
    reads: WeightReads | None = None
    context_used: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    media: int = 0
    media_tokens: int = 0
    encoded_tokens: int = 0
    encode_s: float = 0.0
    placed_s: float = 0.0
    completion_tokens: int = 0
    thought_tokens: int = 0
    thought_cut: bool = False
    cycle_tokens: int = 0
    target_passes: int = 0
    draft_steps: int = 0
    drafted_at: list[int] = field(default_factory=lambda: [0] * MAX_DRAFT)
    accepted_at: list[int] = field(default_factory=lambda: [0] * MAX_DRAFT)
    draft_s: float = 0.0
    verify_s: float = 0.0
    sample_s: float = 0.0
    started: float = field(default_factory=perf_counter)
    prefilled: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0

    def count_placed(self, seconds: float) -> None:
        """Adds the time of decoding images and sounds, and loading the projector, just before."""
        self.placed_s = seconds
        self.started -= seconds

    def count_encoded(self, tokens: int, seconds: float) -> None:
        """Sets how many tokens of images and sounds were encoded so far, and how long it took."""
        self.encoded_tokens, self.encode_s = tokens, seconds

    def add_times(self, draft_s: float, verify_s: float, sample_s: float) -> None:
        """Adds the times of a round."""
        self.draft_s += draft_s
        self.verify_s += verify_s
        self.sample_s += sample_s

    def count_round(self, steps: int, drafted: int, accepted: int) -> None:
        """Adds a target pass: draft steps taken, tokens verified, tokens accepted."""
        self.target_passes += 1
        self.draft_steps += steps
        for i in range(drafted):
            self.drafted_at[i] += 1
        for i in range(accepted):
            self.accepted_at[i] += 1

    def snapshot(self) -> Stats:
        """Returns the statistics so far."""
        drafted, accepted = sum(self.drafted_at), sum(self.accepted_at)
        prefill_s = max(0.0, (self.prefilled or perf_counter()) - self.started)
        decode_s = max(0.0, self.last_token - self.first_token)
        other_s = max(0.0, decode_s - self.draft_s - self.verify_s - self.sample_s)
        deepest = max((i + 1 for i, n in enumerate(self.drafted_at) if n), default=0)
        return Stats(
            load_s=self.load_s,
            prefill_s=prefill_s,
            ttft_s=max(0.0, self.first_token - self.started),
            decode_s=decode_s,
            prefill_tokens_per_s=_per(
                self.prompt_tokens - self.reused_tokens, prefill_s - self.encode_s - self.placed_s
            ),
            decode_tokens_per_s=_per(self.completion_tokens - 1, decode_s),
            target_passes=self.target_passes,
            draft_steps=self.draft_steps,
            drafted=drafted,
            accepted=accepted,
            acceptance_rate=_per(accepted, drafted),
            tokens_per_pass=_per(self.completion_tokens - 1, self.target_passes),
            acceptance_by_position=tuple(
                _per(self.accepted_at[i], self.drafted_at[i]) for i in range(deepest)
            ),
            draft_length_mean=_per(drafted, self.target_passes),
            drafting=self.drafting,
            copies_only=self.copies_only,
            time=TimeSpent(self.draft_s, self.verify_s, self.sample_s, other_s),
            prompt_tokens=self.prompt_tokens,
            reused_tokens=self.reused_tokens,
            completion_tokens=self.completion_tokens,
            context_used=self.context_used,
            context_size=self.context_size,
            thought_tokens=self.thought_tokens,
            thought_cut=self.thought_cut,
            cycle_tokens=self.cycle_tokens,
            threads=self.threads,
            most_threads=self.most_threads,
            media=self.media,
            media_tokens=self.media_tokens,
            encoded_tokens=self.encoded_tokens,
            encode_s=self.encode_s + self.placed_s,
            bandwidth_share=self._bandwidth_share(drafted, decode_s),
        )

    def _bandwidth_share(self, drafted: int, decode_s: float) -> float:
        passes = self.target_passes
        if self.reads is None or not passes:
            return 0.0
        return self.reads.share(drafted / passes, self.draft_steps / passes, decode_s / passes)


def _per(amount: float, of: float) -> float:
    return max(0.0, amount) / of if of > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """Decode time by part, in seconds; the four add up to `Stats.decode_s`."""

    draft_s: float
    verify_s: float
    sample_s: float
    other_s: float


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of one answer. Times are in seconds, rates per second, shares in 0..1."""

    load_s: float
    prefill_s: float
    ttft_s: float
    """Time to first token, from the request."""
    decode_s: float
    """Time from the first token to the last."""
    prefill_tokens_per_s: float
    """Prompt tokens that were not reused, per second of prefill without `encode_s`."""
    decode_tokens_per_s: float
    """(completion_tokens - 1) / decode_s."""
    target_passes: int
    """Target passes after prefill."""
    draft_steps: int
    """Drafter passes."""
    drafted: int
    """Draft tokens verified."""
    accepted: int
    acceptance_rate: float
    tokens_per_pass: float
    """Tokens after the first, per target pass: 1 without drafting."""
    acceptance_by_position: tuple[float, ...]
    """[i]: acceptance rate at draft position i + 1, of drafts that reached it."""
    draft_length_mean: float
    drafting: str
    """`on`, or `off: REASON`."""
    time: TimeSpent
    prompt_tokens: int
    reused_tokens: int
    completion_tokens: int
    context_used: int
    context_size: int
    thought_tokens: int = 0
    """Tokens of thoughts, without their markers."""
    thought_cut: bool = False
    """Whether a thought was ended by the thinking budget."""
    cycle_tokens: int = 0
    """Length of the cycle of an answer that was ended because it repeated itself."""
    threads: int = 0
    """Compute threads of the last pass; 0 if unknown."""
    most_threads: int = 0
    """Compute threads when no other program uses the cores; 0 if unknown."""
    media: int = 0
    """Images and sounds in the prompt."""
    media_tokens: int = 0
    """Tokens of those."""
    encoded_tokens: int = 0
    """Tokens of those that were encoded for this answer; others were in memory."""
    encode_s: float = 0.0
    """Time that images and sounds took, from their files to rows: loading the projector for the
    first one, decoding, encoding. Part of `prefill_s`."""
    bandwidth_share: float = 0.0
    """Share of the memory bandwidth that reading weights took while decoding; 0 if unknown, above 1
    for weights that fit a cache."""
    copies_only: bool = False
    """Whether all drafts are copied from the context."""

    @property
    def drafting_note(self) -> str:
        """Reason why nothing was drafted although drafting is on; empty if unknown."""
        idle = self.drafting == "on" and self.target_passes and not self.drafted
        return NOTHING_COPIED if idle and self.copies_only else ""

    def as_dict(self) -> dict[str, object]:
        """Returns the `stats` of `run --json`, see `docs/json.md`.

        Unlike the fields, the acceptance rate is None if nothing was drafted, the share of the
        bandwidth is None if unknown, the drafting state is split into `drafting_state` and
        `drafting_reason`, and `drafting_note` follows.
        """
        state, _, reason = self.drafting.partition(": ")
        if state == "off" and reason.startswith(PAUSED):
            state = "paused"
        fields = asdict(self)
        del fields["copies_only"]
        return fields | {
            "acceptance_rate": self.acceptance_rate if self.drafted else None,
            "bandwidth_share": self.bandwidth_share or None,
            "drafting_state": state or "unknown",
            "drafting_reason": reason or None,
            "drafting_note": self.drafting_note or None,
        }
