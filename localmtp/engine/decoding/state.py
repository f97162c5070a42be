"""The state of a sequence outside of its context, to be loaded into another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from localmtp.engine.llama import Floats, StateBytes


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint of sliding windows."""

    window: StateBytes
    hidden: Floats | None = None
    """[n_embd]: the hidden state of its last token, if known."""


@dataclass(frozen=True, slots=True)
class SequenceState:
    """Cache, hidden state and checkpoints of a sequence."""

    tokens: Sequence[int]
    """Token ids in the cache; media below 0."""
    hidden: Floats
    """[n_embd]: the hidden state of the last token, which an MTP drafter reads."""
    cache: StateBytes
    checkpoints: Mapping[int, SavedCheckpoint] = field(default_factory=dict)
    """By number of tokens."""
