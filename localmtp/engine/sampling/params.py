"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen; the defaults are Gemma 4's own.

    Applied in this order: temperature, top-k, top-p, min-p.
    """

    temperature: float = 1.0
    """0 for greedy."""
    top_k: int = 64
    """0 for no limit."""
    top_p: float = 0.95
    min_p: float = 0.0
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always chosen."""
        return self.temperature <= 0
