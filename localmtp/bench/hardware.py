"""How much of the machine a pair uses: the memory it takes, and how fast it reads it.

Decoding reads the weights once for every pass, so memory bandwidth bounds it (the roofline model:
Williams et al. 2009). A figure near the bound says that only fewer passes can be faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.engine.llama.ggml import devices
from localmtp.hardware import machine
from localmtp.models import ModelFiles
from localmtp.models.gguf_header import read_header
from localmtp.models.memory.shape import Shape, shape_of


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a loaded pair takes, in bytes."""

    target: int
    """Its file."""
    drafter: int
    """Its file; 0 without one."""
    resident: int
    """All that the process has in main memory, pages of the files included."""
    bandwidth: float
    """Bytes per second that the processor reads; 0 where an accelerator computes, whose memory is
    not measured."""
    shape: Shape

    def share(self, drafts: float, steps: float, round_s: float) -> float:
        """Of the bandwidth that reading weights takes up.

        Args:
            drafts: tokens verified in a pass, on average.
            steps: draft steps before it, on average.
            round_s: seconds of a pass with its drafting.

        Returns:
            0 where the bandwidth is not known; above 1 for weights that a cache holds.
        """
        if not self.bandwidth or not round_s:
            return 0.0
        read = min(1.0, self.shape.read + drafts * self.shape.read_more)
        return (self.target * read + steps * self.drafter) / round_s / self.bandwidth

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "target_bytes": self.target,
            "drafter_bytes": self.drafter,
            "resident_bytes": self.resident,
            "bandwidth_bytes_per_s": self.bandwidth,
        }


def hardware(files: ModelFiles) -> Hardware:
    """Look at the machine and at a pair that is loaded on it; takes about a second."""
    import psutil  # type: ignore[import-untyped]

    return Hardware(
        target=files.target.stat().st_size,
        drafter=files.drafter.stat().st_size if files.drafter else 0,
        resident=psutil.Process().memory_info().rss,
        bandwidth=0.0 if devices() else machine.bandwidth(),
        shape=shape_of(read_header(files.target)),
    )
