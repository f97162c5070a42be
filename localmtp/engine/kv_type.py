"""Types of the KV cache."""

from __future__ import annotations

from enum import StrEnum


class KVType(StrEnum):
    """Type of keys and values, by ggml's name.

    An MTP drafter reads the target's cache and has none of its own.
    """

    F16 = "f16"
    Q8_0 = "q8_0"
    """Half the memory. Smaller types have been reported to reduce acceptance."""

    @property
    def ggml_type(self) -> int:
        """Value in `enum ggml_type`."""
        return {KVType.F16: 1, KVType.Q8_0: 8}[self]

    @property
    def bytes_per_element(self) -> float:
        """Bytes per element; a Q8_0 block has 32 bytes and a half-precision scale."""
        return {KVType.F16: 2.0, KVType.Q8_0: 34 / 32}[self]
