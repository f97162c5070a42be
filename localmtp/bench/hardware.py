"""Memory that a loaded pair takes, and its share of the memory bandwidth.

Decoding reads the weights once per pass, so memory bandwidth bounds it (the roofline model:
Williams et al. 2009). Near that bound, only fewer passes make it faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.engine.llama.ggml import devices
from localmtp.hardware.bandwidth import memory_bandwidth
from localmtp.models import ModelFiles
from localmtp.models.gguf_header import read_header
from localmtp.models.memory.shape import ModelShape, shape_of


@dataclass(frozen=True, slots=True)
class Hardware:
    """Memory of a loaded pair, in bytes."""

    target: int
    """Size of the file."""
    drafter: int
    """Size of the file; 0 without a drafter."""
    resident: int
    """Resident set size of the process, mapped pages of the files included."""
    bandwidth: float
    """Bytes per second that the processor reads; 0 if an accelerator computes, whose bandwidth is
    not measured."""
    shape: ModelShape

    def share(self, drafts: float, steps: float, round_s: float) -> float:
        """Return the share of the bandwidth that reading weights takes.

        Args:
            drafts: draft tokens verified per pass, on average.
            steps: draft steps per pass, on average.
            round_s: seconds of a pass with its draft steps.

        Returns:
            0 if the bandwidth is unknown; above 1 for weights that fit a cache.
        """
        if not self.bandwidth or not round_s:
            return 0.0
        read = min(1.0, self.shape.read + drafts * self.shape.read_more)
        return (self.target * read + steps * self.drafter) / round_s / self.bandwidth

    def as_dict(self) -> dict[str, object]:
        """Return the fields of `memory` in the report."""
        return {
            "target_bytes": self.target,
            "drafter_bytes": self.drafter,
            "resident_bytes": self.resident,
            "bandwidth_bytes_per_s": self.bandwidth,
        }


def hardware(files: ModelFiles) -> Hardware:
    """Measure a loaded pair and the machine; takes about a second."""
    import psutil  # type: ignore[import-untyped]

    return Hardware(
        target=files.target.stat().st_size,
        drafter=_drafter_bytes(files),
        resident=psutil.Process().memory_info().rss,
        bandwidth=0.0 if devices() else memory_bandwidth(),
        shape=shape_of(read_header(files.target)),
    )


def _drafter_bytes(files: ModelFiles) -> int:
    """Bytes that a draft step reads; those of a head in the target's file by its tensors."""
    if files.drafter_file:
        return files.drafter_file.stat().st_size
    header = read_header(files.target)
    last = f"blk.{header.number('block_count') - 1}."
    own = [tensor for tensor in header.tensors if tensor.name.startswith(last)]
    return sum(tensor.nbytes for tensor in own) if files.drafter else 0
