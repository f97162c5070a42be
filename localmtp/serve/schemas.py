"""JSON schemas of `response_format`, as grammars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from localmtp.engine.llama import gbnf
from localmtp.serve.errors import APIError

_LONGEST = 64 * 1024
"""Bytes of a schema. Grammars grow with the square of the number of optional properties."""

_MOST_REPEATED = 1000
_REPEATED = ("minLength", "maxLength", "minItems", "maxItems")
"""Written out as often as they say when the grammar is made: a large one takes all memory."""


def grammar_of(schema: dict[str, Any] | None) -> str:
    """The grammar of the JSON texts that a schema allows.

    Args:
        schema: None for any object.

    Raises:
        APIError: the schema is too large, or says what no grammar can.
    """
    try:
        text = json.dumps({"type": "object"} if schema is None else schema)
        entries = list(_entries(schema))
    except RecursionError as error:
        raise _refused("it is nested too deeply") from error
    if len(text) > _LONGEST:
        raise _refused(f"it is longer than {_LONGEST} bytes")
    for key, value in entries:
        if key in _REPEATED and isinstance(value, int) and value > _MOST_REPEATED:
            raise _refused(f"{key} is more than {_MOST_REPEATED}")
        if key == "pattern" and "{" in str(value):
            raise _refused("a pattern counts repetitions")
    try:
        return gbnf(text)
    except Exception as error:  # the converter raises whatever a schema makes it
        raise _refused("it is not one that can be followed while generating") from error


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every object, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _refused(why: str) -> APIError:
    return APIError(400, f"the JSON schema cannot be used: {why}", param="response_format")
