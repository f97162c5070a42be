"""Pacing data of a pair on this machine, saved between runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from localmtp.atomic import atomic_write_text
from localmtp.engine.pacing import Calibration
from localmtp.errors import LocalmtpError
from localmtp.paths import pacing_store
from localmtp.session.ranges import is_number

_FORMAT = 2
"""Incremented when the meaning of the data changes; files of other formats are ignored."""


_ROUNDING = 1e-6


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
        try:
            saved = json.loads(self._path(greedy=greedy).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return Calibration.load(saved) if _are_rates(saved, Calibration().dump()) else None

    def save(self, calibration: Calibration, *, greedy: bool) -> None:
        """Replaces the saved data, if the file can be written."""
        path = self._path(greedy=greedy)
        with suppress(OSError, LocalmtpError):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, json.dumps(calibration.dump()), durable=False)

    def load_all(self) -> dict[bool, Calibration]:
        """Returns saved or new data for both ways of sampling, by whether it is greedy."""
        return {greedy: self.load(greedy=greedy) or Calibration() for greedy in (True, False)}

    def save_all(self, calibrations: Mapping[bool, Calibration]) -> None:
        """Saves what was measured of both ways of sampling."""
        for greedy, calibration in calibrations.items():
            if calibration.measured:
                self.save(calibration, greedy=greedy)

    def _path(self, *, greedy: bool) -> Path:
        mode = "greedy" if greedy else "sampled"
        return self._directory / f"{self._name}-{mode}-{_FORMAT}.json"


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
