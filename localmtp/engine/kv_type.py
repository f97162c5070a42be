"""The formats that a KV cache is kept in."""

from __future__ import annotations

from enum import StrEnum


class KVType(StrEnum):
    """A format of keys and values, by ggml's name.

    Drafts need no other format: an MTP drafter reads the target's cache.
    """

    F16 = "f16"
    Q8_0 = "q8_0"
    """Half the memory. Below this, acceptance has been seen to suffer."""

    @property
    def ggml_type(self) -> int:
        """The `ggml_type`."""
        return {KVType.F16: 1, KVType.Q8_0: 8}[self]

    @property
    def bytes_per_element(self) -> float:
        """A block of Q8_0 is 32 bytes and a half-precision scale."""
        return {KVType.F16: 2.0, KVType.Q8_0: 34 / 32}[self]
