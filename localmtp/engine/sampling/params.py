"""Sampling parameters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AcceptanceRule(StrEnum):
    """Rules for accepting sampled draft tokens. All are exact in distribution."""

    AUTO = "auto"
    """`GUMBEL` with a seed, else `MAXIMAL`."""
    GUMBEL = "gumbel"
    """Accept if it is the target's own choice under shared noise; see `GumbelSampler`."""
    MAXIMAL = "maximal"
    """Accept with probability min(1, p/q); see `SpeculativeSampler`."""


class OnRepeat(StrEnum):
    """Behaviour when an answer repeats itself; see `repetition`."""

    AUTO = "auto"
    """`OFF` if greedy, else `STOP`."""
    STOP = "stop"
    """The answer ends."""
    DRY = "dry"
    """DRY draws it out; see `DrySampler`."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters, with Gemma 4's defaults.

    Applied in this order: penalties, DRY, temperature, top-k, top-p, min-p.
    """

    temperature: float = 1.0
    """0 for greedy."""
    top_k: int = 64
    """0 for no limit."""
    top_p: float = 0.95
    min_p: float = 0.0
    seed: int | None = None
    """None for a random one."""
    acceptance: AcceptanceRule = AcceptanceRule.AUTO
    repeat_penalty: float = 1.0
    """1 for none; see `PenalizedSampler`, as for the next three."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids, and the values added to their logits."""
    dry_multiplier: float = 0.0
    """0 for none; see `DrySampler`, as for the next four."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    """Repeated tokens without a penalty."""
    dry_penalty_last_n: int = 1024
    """Tokens that are searched, at most 4,096; -1 for all of these."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """Repetitions do not reach across them."""
    on_repeat: OnRepeat = OnRepeat.AUTO

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always chosen."""
        return self.temperature <= 0

    @property
    def penalizes(self) -> bool:
        """Whether a `PenalizedSampler` is needed."""
        given = self.presence_penalty, self.frequency_penalty, self.logit_bias
        return self.repeat_penalty != 1.0 or any(given)

    @property
    def repeats(self) -> OnRepeat:
        """Behaviour when the answer repeats itself; never `AUTO`."""
        if self.on_repeat is OnRepeat.AUTO:
            return OnRepeat.OFF if self.greedy else OnRepeat.STOP
        return self.on_repeat

    @property
    def dries(self) -> bool:
        """Whether a `DrySampler` is needed."""
        return self.dry_multiplier > 0 or self.repeats is OnRepeat.DRY

    @property
    def shares_noise(self) -> bool:
        """Whether draft and target share noise, so that a seed determines an answer."""
        if self.acceptance == AcceptanceRule.AUTO:
            return self.seed is not None
        return self.acceptance == AcceptanceRule.GUMBEL
