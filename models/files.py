"""The files of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NO_DRAFTER = "none"
"""Value of `--drafter` that turns drafting off."""

NO_PROJECTOR = "none"
"""Value of `--mmproj` that turns images and sound off."""

NO_MEDIA = "--no-media"
"""Reason why there is no projector, where none is wanted."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A target on disk, and the drafter to load with it."""

    name: str
    """Display name: `nano`, `gemma4-e4b:Q4_0`, `some-file.gguf`."""
    target: Path
    """Path of the target, or of its first part."""
    drafter: Path | None
    drafter_name: str
    """Display name of the drafter; empty without one."""
    why_no_drafter: str = ""
    """Reason why there is no drafter, as it follows `off: `; empty with one."""
    why_drafter: str = ""
    """Reason why the drafter belongs to the target."""
    first_draft_length: int | None = None
    """Draft length that published measurements recommend to start with; None if unknown."""
    warnings: tuple[str, ...] = ()
    """Warnings about the pair, one line each."""
    projector: Path | None = None
    """Encoder of images and sound, loaded when the first of them comes; None without one."""
    why_no_projector: str = ""
    """Reason why there is none, as it follows `no images or sound: `; empty with one."""
    media: tuple[str, ...] = ()
    """Kinds of media that the projector encodes: `image`, `audio`."""

    @property
    def drafter_file(self) -> Path | None:
        """The drafter's file; None without one, and for a head in the target's file."""
        return None if self.drafter == self.target else self.drafter
