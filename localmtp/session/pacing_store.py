"""What automatic pacing learned about a pair on this machine, kept between runs."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.engine.pacing import Learned
from localmtp.errors import LocalmtpError
from localmtp.paths import pacing_store

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
        self._directory = directory or pacing_store()
        self._name = sha256("\n".join(parts).encode()).hexdigest()[:16]

    def recall(self, *, greedy: bool) -> Learned | None:
        """What was last kept."""
        try:
            kept = json.loads(self._path(greedy=greedy).read_text("utf-8"))
            return Learned.load(kept)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, learned: Learned, *, greedy: bool) -> None:
        """Writes it; does nothing where that is not possible."""
        path = self._path(greedy=greedy)
        with suppress(OSError, LocalmtpError):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, json.dumps(learned.dump()), durable=False)

    def _path(self, *, greedy: bool) -> Path:
        way = "greedy" if greedy else "sampled"
        return self._directory / f"{self._name}-{way}-{_FORMAT}.json"
