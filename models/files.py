"""What resolving a model's name yields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NO_DRAFTER = "none"
"""What `--drafter` takes to run without drafting."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A target on disk with the drafter to pair it with."""

    name: str
    """As shown to people: `nano`, `gemma4-e4b:Q4_0`, `some-file.gguf`."""
    target: Path
    drafter: Path | None
    drafter_name: str
    """The drafter as shown to people; empty when there is none."""
    why_no_drafter: str = ""
    """Empty when there is a drafter; else what follows `off: `."""
    why_drafter: str = ""
    """What makes it the target's."""
    first_draft_length: int | None = None
    """What published measurements advise to begin with; None where the registry has none."""
    warnings: tuple[str, ...] = ()
    """What a user should know about the pair, one line each."""
