"""Memory that a loaded pair takes, and the bandwidth of what holds its weights."""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.engine.pair import Pair
from localmtp.engine.weight_reads import WeightReads
from localmtp.models import ModelFiles
from localmtp.session.bandwidth import weight_reads


@dataclass(frozen=True, slots=True)
class Hardware:
    """Memory of a loaded pair, in bytes."""

    target: int
    """Size of the file."""
    drafter: int
    """Size of the file, 0 without a drafter or with a head in the target's file."""
    resident: int
    """Resident set size of the process, mapped pages of the files included."""
    reads: WeightReads | None
    """None if the bandwidth of the memory is unknown: that of a divided model is."""

    @property
    def bandwidth(self) -> float:
        """Bytes per second of the processor's memory, or of the GPU that holds all layers."""
        return self.reads.bandwidth if self.reads else 0.0

    def share(self, drafts: float, steps: float, round_s: float) -> float:
        """Return the share of the bandwidth that reading weights takes; 0 if it is unknown.

        See `WeightReads.share`.
        """
        return self.reads.share(drafts, steps, round_s) if self.reads else 0.0

    def as_dict(self) -> dict[str, object]:
        """Return the fields of `memory` in the report."""
        return {
            "target_bytes": self.target,
            "drafter_bytes": self.drafter,
            "resident_bytes": self.resident,
            "bandwidth_bytes_per_s": self.bandwidth,
        }


def hardware(files: ModelFiles, pair: Pair) -> Hardware:
    """Measure a loaded pair and the machine; takes about a second.

    Args:
        files: the pair.
        pair: loaded from them.
    """
    import psutil  # type: ignore[import-untyped]

    resident = psutil.Process().memory_info().rss
    offload = pair.target.model.offload
    return Hardware(
        target=files.target_bytes,
        drafter=files.drafter_file.stat().st_size if files.drafter_file else 0,
        resident=resident,
        reads=weight_reads(files, offload.gpu_layers, offload.options, measure=True),
    )
