"""The files of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localmtp.models.naming.quant import parts_of

NO_DRAFTER = "none"
"""Value of `--drafter` that turns drafting off."""

LOOKUP = "lookup"
"""Value of `--drafter` that copies drafts from the context only, and display name of that."""

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
    """Reason why there is no drafter; empty with one."""
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
    lookup: bool = False
    """Whether drafts are copied from the context, without a drafter."""

    @property
    def target_bytes(self) -> int:
        """Bytes of the target, of all its parts."""
        target = self.target
        names = (other.name for other in target.parent.iterdir())
        return sum(target.with_name(n).stat().st_size for n in parts_of(names, target.name))

    @property
    def drafter_file(self) -> Path | None:
        """The drafter's file; None without one, and for a head in the target's file."""
        return None if self.drafter == self.target else self.drafter

    @property
    def drafts(self) -> bool:
        """Whether there is anything that drafts."""
        return self.drafter is not None or self.lookup


def without_drafter(name: str, target: Path, choice: str) -> ModelFiles:
    """Returns the files of a target whose drafter is not wanted.

    Args:
        name: display name.
        target: path of the target.
        choice: `NO_DRAFTER` or `LOOKUP`.
    """
    lookup = choice == LOOKUP
    return ModelFiles(
        name, target, None, LOOKUP if lookup else "", f"--drafter {choice}", lookup=lookup
    )
