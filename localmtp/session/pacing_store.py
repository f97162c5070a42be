"""Pacing data of a pair on this machine, saved between runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from localmtp.atomic import atomic_write_text
from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.llama.ggml import devices
from localmtp.engine.load_options import LoadOptions
from localmtp.engine.pacing import Calibration, PacingState
from localmtp.engine.pacing.plan import MAX_COPY
from localmtp.errors import LocalmtpError
from localmtp.hardware import cpu
from localmtp.models import ModelFiles
from localmtp.paths import pacing_store
from localmtp.session.ranges import is_number

_FORMAT, _COST_FORMAT = 2, 1
"""Incremented when the meaning of the data changes; files of other formats are ignored."""

_ROUNDING = 1e-6

_LONGEST_S = 1e4
"""Seconds of a pass above which a saved cost is not plausible."""


class PacingStore:
    """The saved pacing data of one pair, loaded in one way.

    Every combination of files, machine and load options has its own file. The data only saves
    warm-up: a file that is missing, damaged or not writable is ignored.

    Args:
        parts: strings that identify the combination: file names and sizes, threads, devices.
        directory: of all files; None for the user's state directory.
    """

    def __init__(self, parts: Sequence[str], directory: Path | None = None) -> None:
        self._directory = directory or pacing_store()
        self._name = sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:16]

    def load(self, *, greedy: bool) -> Calibration | None:
        """Returns the data that was saved last; None if there is none.

        Args:
            greedy: greedy and sampled answers are measured separately.
        """
        saved = self._read(self._path(greedy=greedy))
        return Calibration.load(saved) if _are_rates(saved, Calibration().dump()) else None

    def save(self, calibration: Calibration, *, greedy: bool) -> None:
        """Replaces the saved data, if the file can be written."""
        self._write(self._path(greedy=greedy), calibration.dump())

    def load_all(self) -> PacingState:
        """Returns saved data, new where there is none."""
        calibrations = {
            greedy: self.load(greedy=greedy) or Calibration() for greedy in (True, False)
        }
        saved = self._read(self._costs)
        return PacingState(calibrations, saved if _are_costs(saved) else {})

    def save_all(self, pacing: PacingState) -> None:
        """Saves what was measured."""
        for greedy, calibration in pacing.calibrations.items():
            if calibration.measured:
                self.save(calibration, greedy=greedy)
        if pacing.costs:
            self._write(self._costs, pacing.costs)

    def load_device_kinds(self) -> tuple[str, ...] | None:
        """Returns the kinds of answers that the device chooses faster; None if not measured."""
        saved = self._read(self._device)
        kinds = ("greedy", "sampled")
        return tuple(kind for kind in kinds if kind in saved) if isinstance(saved, list) else None

    def save_device_kinds(self, kinds: Sequence[str]) -> None:
        """Saves what was measured, if the file can be written."""
        self._write(self._device, list(kinds))

    @property
    def _device(self) -> Path:
        return self._directory / f"{self._name}-device.json"

    @property
    def _costs(self) -> Path:
        return self._directory / f"{self._name}-costs-{_COST_FORMAT}.json"

    @staticmethod
    def _read(path: Path) -> Any:
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    @staticmethod
    def _write(path: Path, data: Any) -> None:
        with suppress(OSError, LocalmtpError):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, json.dumps(data), durable=False)

    def _path(self, *, greedy: bool) -> Path:
        mode = "greedy" if greedy else "sampled"
        return self._directory / f"{self._name}-{mode}-{_FORMAT}.json"


def _are_costs(saved: Any) -> bool:
    """Whether a value of JSON has the structure of `CostModel.dump`, with plausible seconds."""
    if not isinstance(saved, dict):
        return False
    for costs in saved.values():
        if not isinstance(costs, dict) or costs.keys() != {"passes", "step", "change"}:
            return False
        passes = costs["passes"]
        if not (isinstance(passes, list) and len(passes) == MAX_COPY + 1 and passes[0]):
            return False
        seconds = (*passes, costs["step"], costs["change"])
        if not all(is_number(s) and 0 <= s <= _LONGEST_S for s in seconds):
            return False
    return True


def _are_rates(saved: Any, expected: Any) -> bool:
    """Whether a value of JSON has the structure of another, with numbers of 0 to 1."""
    match expected:
        case dict():
            if not isinstance(saved, dict) or saved.keys() != expected.keys():
                return False
            return all(_are_rates(saved[key], expected[key]) for key in expected)
        case list():
            if not isinstance(saved, list) or len(saved) != len(expected):
                return False
            return all(map(_are_rates, saved, expected))
    return is_number(saved) and 0 <= saved <= 1 + _ROUNDING


def pacing_store_for(files: ModelFiles, options: LoadOptions) -> PacingStore:
    """Returns the pacing data of a pair with these load options on this machine."""
    paths = [files.target, files.drafter] if files.drafter else [files.target]
    parts = [
        *(f"{path.name} {path.stat().st_size}" for path in paths),
        f"{options.threads or cpu.cores()} threads, GPU layers {options.gpu_layers}",
        cpu.processor(),
        *([repr(options.devices)] if options.devices != DeviceOptions() else []),
        *(device.description for device in devices()),
    ]
    return PacingStore(parts)
