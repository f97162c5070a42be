"""Vocabularies."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from llama_cpp import llama_cpp as capi
from numpy.typing import NDArray

TokenIds = NDArray[np.int32]

_REMEMBERED = 8192
"""Tokens: more than most conversations use; about a megabyte."""


MARKER = re.compile(rb'<\|(\w+|")\|?>|<\w+\|>|</?(think|tool_call|tool_response)>')
"""Structural tokens of Gemma 4, ChatML and Qwen; many files declare some as ordinary tokens."""


class _PieceBuffer(threading.local):
    """Buffer for a token's bytes; one per thread, since a server's threads must not share it."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(1 << 12)


class Vocab:
    """Text to token ids and back, as the GGUF's tokenizer does it.

    Args:
        model: handle of a loaded model.
        repeated: tokens with the text of another token, with that one.
    """

    def __init__(self, model: int, repeated: Mapping[int, int]) -> None:
        self.handle: int = capi.llama_model_get_vocab(model)
        self._repeated = repeated
        self.size: int = capi.llama_vocab_n_tokens(self.handle)
        self.bos: int = capi.llama_vocab_bos(self.handle)
        self.eos: int = capi.llama_vocab_eos(self.handle)
        self.adds_bos: bool = capi.llama_vocab_get_add_bos(self.handle)
        self.opening = [self.bos] if self.adds_bos and self.bos >= 0 else []
        """What every text begins with: BOS, if the model uses it."""
        self.suppressed = self._read_suppressed()
        self._piece = _PieceBuffer()
        # An answer repeats its tokens, and asking libllama takes several times as long.
        self._pieces = lru_cache(_REMEMBERED)(self._read_piece)
        self._ends = lru_cache(_REMEMBERED)(self._read_end)
        self._structural = lru_cache(_REMEMBERED)(self._find_structural)

    def _read_suppressed(self) -> TokenIds:
        count = ctypes.c_int32()
        ids = capi.llama_vocab_get_suppress_tokens(self.handle, ctypes.byref(count))
        return np.array([ids[i] for i in range(count.value)], np.int32)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`, without BOS.

        Args:
            text: any string.
            special: whether control tokens written out in `text` become those tokens.
        """
        data = text.encode("utf-8", "surrogateescape")
        # A byte never becomes more than one token; a few spare for what the tokenizer adds.
        ids = (capi.llama_token * (len(data) + 8))()
        n = capi.llama_tokenize(self.handle, data, len(data), ids, len(ids), False, special)
        return list(ids[:n])

    def piece(self, token_id: int, *, special: bool = False) -> bytes:
        """The bytes a token stands for: perhaps part of a character; none for control tokens."""
        return self._pieces(token_id, special)

    def is_structural(self, token_id: int) -> bool:
        """Whether a token structures a turn: a control token, or declared otherwise by mistake."""
        piece = self.piece(token_id)
        return not piece or MARKER.fullmatch(piece) is not None

    def structural(self, text: str) -> int | None:
        """Returns the id of the structural token that is written `text`; None if there is none."""
        return self._structural(text)

    def _find_structural(self, text: str) -> int | None:
        ids = self.tokenize(text, special=True)
        return ids[0] if len(ids) == 1 and self.is_structural(ids[0]) else None

    def _read_piece(self, token_id: int, special: bool) -> bytes:
        token_id = self._repeated.get(token_id, token_id)
        buffer = self._piece.buffer
        n = capi.llama_token_to_piece(self.handle, token_id, buffer, len(buffer), 0, special)
        return ctypes.string_at(buffer, max(0, n))

    def same_as(self, other: Vocab) -> bool:
        """Whether a sample of the tokens agrees: enough to tell vocabularies apart.

        Only tokens that both have are compared: sizes of padded vocabularies differ.
        """
        common = min(self.size, other.size)
        return all(
            self.piece(i, special=True) == other.piece(i, special=True)
            for i in range(0, common, max(1, common // 512))
        )

    def ends_generation(self, token_id: int) -> bool:
        """Whether the model ends its turn with this token."""
        return self._ends(token_id)

    def _read_end(self, token_id: int) -> bool:
        same = self._repeated.get(token_id, token_id)
        return bool(capi.llama_vocab_is_eog(self.handle, same))
