"""Memory that a loaded pair takes, and its share of the memory bandwidth.

Decoding reads the weights once per pass, so memory bandwidth bounds it (the roofline model:
Williams et al. 2009). Near that bound, only fewer passes make it faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.engine.llama import Model
from localmtp.engine.llama.offload import device_bandwidth
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
    """Bytes per second of the processor's memory, or of the GPU that holds all layers; 0 if the
    model is divided."""
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


def hardware(files: ModelFiles, model: Model) -> Hardware:
    """Measure a loaded pair and the machine; takes about a second.

    Args:
        files: the pair.
        model: its target, loaded.
    """
    import psutil  # type: ignore[import-untyped]

    return Hardware(
        target=files.target.stat().st_size,
        drafter=_drafter_bytes(files),
        resident=psutil.Process().memory_info().rss,
        bandwidth=_bandwidth(model),
        shape=shape_of(read_header(files.target)),
    )


def _bandwidth(model: Model) -> float:
    used = model.offload.devices
    if not used:
        return memory_bandwidth()
    if len(used) > 1 or used[0].remote or not model.fully_offloaded:
        return 0.0
    return device_bandwidth(used[0].name)


def _drafter_bytes(files: ModelFiles) -> int:
    """Bytes that a draft step reads; those of a head in the target's file by its tensors."""
    if files.drafter_file:
        return files.drafter_file.stat().st_size
    header = read_header(files.target)
    last = f"blk.{header.number('block_count') - 1}."
    own = [tensor for tensor in header.tensors if tensor.name.startswith(last)]
    return sum(tensor.nbytes for tensor in own) if files.drafter else 0
