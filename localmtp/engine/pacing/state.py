"""Everything that pacing knows about a pair on a machine, for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localmtp.engine.pacing.calibration import Calibration


def _new() -> dict[bool, Calibration]:
    return {True: Calibration(), False: Calibration()}


@dataclass(frozen=True, slots=True)
class PacingState:
    """Calibrations and costs."""

    calibrations: Mapping[bool, Calibration] = field(default_factory=_new)
    """By whether sampling is greedy; updated while decoding."""
    costs: Mapping[str, Any] = field(default_factory=dict)
    """From `CostModel.dump`; empty if nothing was measured."""
