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


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters, with Gemma 4's defaults.

    Applied in this order: penalties, temperature, top-k, top-p, min-p.
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

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always chosen."""
        return self.temperature <= 0

    @property
    def penalizes(self) -> bool:
        """Whether logits are changed before they are sampled."""
        given = self.presence_penalty, self.frequency_penalty, self.logit_bias
        return self.repeat_penalty != 1.0 or any(given)

    @property
    def shares_noise(self) -> bool:
        """Whether draft and target share noise, so that a seed determines an answer."""
        if self.acceptance == AcceptanceRule.AUTO:
            return self.seed is not None
        return self.acceptance == AcceptanceRule.GUMBEL
