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
class DrafterState:
    """One KV cache of a drafter that follows the target's tokens."""

    cache: StateBytes
    begin: int = 0
    """Position after the last token that the cache has read."""
    tokens: Sequence[int] = ()
    """Token ids that wait to be read, from `begin` on."""
    hidden: Floats | None = None
    """[tokens, n_embd]: the hidden state before each token that waits; None without any."""


@dataclass(frozen=True, slots=True)
class SequenceState:
    """Cache, hidden state and checkpoints of a sequence, and the caches of its drafter."""

    tokens: Sequence[int]
    """Token ids in the cache; media below 0."""
    hidden: Floats
    """[n_embd]: the hidden state of the last token, which an MTP drafter reads."""
    cache: StateBytes
    checkpoints: Mapping[int, SavedCheckpoint] = field(default_factory=dict)
    """By number of tokens."""
    drafter: Sequence[DrafterState] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all copies."""
        windows = sum(saved.window.nbytes for saved in self.checkpoints.values())
        return self.cache.nbytes + windows + sum(one.cache.nbytes for one in self.drafter)
