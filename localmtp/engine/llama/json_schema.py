"""JSON schemas to GBNF, by llama-cpp-python's converter with limits."""

from __future__ import annotations

import json
from typing import Any

from llama_cpp.llama_grammar import SchemaConverter

from localmtp.engine.llama.patterns import pattern_to_gbnf

_MAX_VISITS = 2_000
"""Subschemas, counted as often as they are referenced."""
_MAX_SIZE = 1 << 20
"""Characters of a grammar."""


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
        self._size += len(rule)
        if self._size > _MAX_SIZE:
            raise ValueError("the grammar is too large")
        return super()._add_rule(name, rule)

    def _visit_pattern(self, pattern: str, name: str) -> Any:
        return self._add_rule(name, f'"\\"" {pattern_to_gbnf(pattern)} "\\"" space')
