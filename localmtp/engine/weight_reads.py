"""Bytes of weights that passes read, by which memory bandwidth bounds decoding.

The roofline model (Williams et al. 2009): near the bound, only fewer passes make decoding faster.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WeightReads:
    """Bytes of a pair's weights, and the bandwidth of the memory that holds them."""

    all: float
    """Bytes of the target."""
    token: float
    """Bytes that a pass of one token reads: of experts and embeddings those that it uses."""
    more: float
    """Bytes that each further token of a pass adds."""
    step: float
    """Bytes that a draft step reads."""
    bandwidth: float
    """Bytes per second; 0 if unknown."""

    def share(self, drafts: float, steps: float, round_s: float) -> float:
        """Returns the share of the bandwidth that reading weights takes.

        Args:
            drafts: draft tokens verified per pass, on average.
            steps: draft steps per pass, on average.
            round_s: seconds of a pass with its draft steps.

        Returns:
            0 if the bandwidth is unknown; above 1 for weights that fit a cache.
        """
        if not self.bandwidth or round_s <= 0:
            return 0.0
        read = min(self.all, self.token + drafts * self.more) + steps * self.step
        return read / round_s / self.bandwidth
