"""Grammars in GBNF, made of JSON schemas and matched token by token.

libllama's grammar sampler is called through a separate handle, on which argument types are declared
for this module only.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from typing import Any

import numpy as np
from llama_cpp.llama_grammar import SchemaConverter

from localmtp.engine.llama.library import Functions, log_lines
from localmtp.engine.llama.model import Model
from localmtp.engine.llama.patterns import pattern_to_gbnf
from localmtp.engine.llama.ranking import CANDIDATE
from localmtp.engine.llama.vocab import TokenIds
from localmtp.errors import LocalmtpError

_LIB = Functions()
_LIB.llama_sampler_init_grammar.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
_LIB.llama_sampler_accept.argtypes = (ctypes.c_void_p, ctypes.c_int32)
_LIB.llama_sampler_init_grammar.restype = ctypes.c_void_p
_LIB.llama_sampler_clone.restype = ctypes.c_void_p


_MAX_VISITS = 2_000
"""Subschemas, counted as often as they are referenced."""
_MAX_SIZE = 1 << 20
"""Characters of a grammar."""

_LOOSE, _STRICT = r'[^"\\]', r'[^"\\\x00-\x1F]'
"""Characters of strings: the converter's, and JSON's."""


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


def gbnf(schema: str) -> str:
    """Convert a JSON schema; the text is compact JSON or JSON with spaces.

    Time and memory are bounded.

    Raises:
        Exception: whatever the converter raises for a schema that it does not support.
    """
    converter = _Converter()
    resolved = converter.resolve_refs(json.loads(schema), "stdin")
    converter.visit(resolved, "")
    return str(converter.format_grammar())


class _Converter(SchemaConverter):  # type: ignore[misc]
    """Counts its work, and converts patterns completely."""

    def __init__(self) -> None:
        super().__init__(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
        self._left = _MAX_VISITS
        self._size = 0

    def visit(self, schema: Any, name: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("the schema is too large")
        return super().visit(schema, name)

    def _add_rule(self, name: str, rule: str) -> Any:
        if name == "char":
            # JSON has no unescaped control characters in strings.
            rule = rule.replace(_LOOSE, _STRICT)
        self._size += len(rule)
        if self._size > _MAX_SIZE:
            raise ValueError("the grammar is too large")
        return super()._add_rule(name, rule)

    def _visit_pattern(self, pattern: str, name: str) -> Any:
        return self._add_rule(name, f'"\\"" {pattern_to_gbnf(pattern)} "\\"" space')
