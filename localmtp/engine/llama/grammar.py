"""Grammars in GBNF, matched token by token.

libllama's grammar sampler is called through a separate handle, on which argument types are declared
for this module only.
"""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from localmtp.engine.llama.library import Functions, log_lines
from localmtp.engine.llama.model import Model
from localmtp.engine.llama.ranking import CANDIDATE
from localmtp.engine.llama.vocab import TokenIds
from localmtp.errors import LocalmtpError

_LIB = Functions()
_LIB.llama_sampler_init_grammar.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
_LIB.llama_sampler_accept.argtypes = (ctypes.c_void_p, ctypes.c_int32)
_LIB.llama_sampler_init_grammar.restype = ctypes.c_void_p
_LIB.llama_sampler_clone.restype = ctypes.c_void_p


class _Candidates(ctypes.Structure):
    """`llama_token_data_array`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class Grammar:
    """A grammar and the current position in it.

    Args:
        handle: a `llama_sampler`; ownership is transferred.
    """

    def __init__(self, handle: int) -> None:
        self._handle = ctypes.c_void_p(handle)
        self._free = weakref.finalize(self, _LIB.llama_sampler_free, self._handle)

    @classmethod
    def parse(cls, model: Model, text: str) -> Grammar:
        """Parse GBNF with the start rule `root`.

        Raises:
            LocalmtpError: it is invalid, or too large for libllama.
        """
        vocab = ctypes.c_void_p(model.vocab.handle)
        with log_lines():  # libllama logs long messages in terms of GBNF
            handle = _LIB.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not handle:
            raise LocalmtpError("libllama rejects the grammar: it is invalid or too large")
        return cls(handle)

    def clone(self) -> Grammar:
        """Copy the grammar with its current position."""
        return Grammar(_LIB.llama_sampler_clone(self._handle))

    def allowed(self, ids: TokenIds) -> TokenIds:
        """Filter token ids that may come next, in the same order."""
        rows = np.zeros(ids.size, CANDIDATE)
        rows["id"] = ids
        array = _Candidates(rows.ctypes.data, ids.size, -1, False)
        _LIB.llama_sampler_apply(self._handle, ctypes.byref(array))
        kept: TokenIds = ids[np.isfinite(rows["logit"])]
        return kept

    def accept(self, token_id: int) -> None:
        """Advance by a token, which must be allowed: otherwise libllama aborts the process."""
        _LIB.llama_sampler_accept(self._handle, token_id)
