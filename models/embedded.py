"""The pair that ships with localmtp."""

from __future__ import annotations

from pathlib import Path

from localmtp.models.files import ModelFiles

NANO = "nano"
"""Name of the embedded pair."""

_FOLDER = Path(__file__).with_name("nano")


def embedded_files() -> ModelFiles:
    """Returns the embedded target and its drafter."""
    return ModelFiles(
        name=NANO,
        target=_FOLDER / "nano-Q8_0.gguf",
        drafter=_FOLDER / "mtp-nano-Q8_0.gguf",
        drafter_name=NANO,
        why_drafter="trained for this target",
    )
