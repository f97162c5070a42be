"""What automatic pacing learned about a pair on this machine, kept between runs."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from localmtp.engine.pacing import Learned

_FORMAT = 2
"""Goes up when what is kept changes its meaning; older files are then not looked at."""


class PacingStore:
    """The memory of one pair, loaded in one way.

    Each combination of files, machine and way of loading has a file of its own, and no two runs of
    different ones write to the same. It only saves learning: a file that is missing, damaged or
    cannot be written changes nothing else.

    Args:
        directory: for all pairs; None for the user's own.
        parts: what makes this combination: files with their sizes, threads, devices.
    """

    def __init__(self, parts: list[str], directory: Path | None = None) -> None:
        if directory is None:
            from platformdirs import user_state_path

            directory = user_state_path("localmtp") / "pacing"
        self._directory = directory
        self._name = sha256("\n".join(parts).encode()).hexdigest()[:16]

    def recall(self, *, greedy: bool) -> Learned | None:
        """What was last kept."""
        try:
            kept = json.loads(self._path(greedy=greedy).read_text("utf-8"))
            return Learned.load(kept)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, learned: Learned, *, greedy: bool) -> None:
        """Write it, beside and renamed."""
        path = self._path(greedy=greedy)
        beside = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(learned.dump()), "utf-8")
            beside.replace(path)

    def _path(self, *, greedy: bool) -> Path:
        way = "greedy" if greedy else "sampled"
        return self._directory / f"{self._name}-{way}-{_FORMAT}.json"
