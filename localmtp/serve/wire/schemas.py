"""JSON schemas of requests, converted to grammars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from localmtp.engine.llama import gbnf
from localmtp.serve.errors import APIError

_LONGEST = 64 * 1024
"""Maximum size of a schema in bytes. Grammars grow with the square of the number of optional
properties."""

_MOST_REPEATED = 1000
_MAX_VALUES = 2000
"""Values of an enum: libllama follows all of them in parallel."""
_REPEATED = ("minLength", "maxLength", "minItems", "maxItems")
"""Keywords that the converter unrolls: a large value exhausts the memory."""

_BOUNDS = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))


def grammar_of(schema: dict[str, Any] | None) -> str:
    """Convert a schema to GBNF.

    Args:
        schema: None for any object.

    Raises:
        APIError: the schema is too large, or cannot be expressed as a grammar.
    """
    try:
        text = json.dumps({"type": "object"} if schema is None else schema)
        entries = list(_entries(schema))
        parts = list(_objects(schema))
    except RecursionError as error:
        raise _refused("it is nested too deeply") from error
    if len(text) > _LONGEST:
        raise _refused(f"it is longer than {_LONGEST} bytes")
    for key, value in entries:
        if key in _REPEATED and isinstance(value, int) and value > _MOST_REPEATED:
            raise _refused(f"{key} is greater than {_MOST_REPEATED}")
        if key == "enum" and isinstance(value, list) and len(value) > _MAX_VALUES:
            raise _refused(f"an enum has more than {_MAX_VALUES} values")
    for part in parts:
        _check(part)
    try:
        return gbnf(text)
    except ValueError as error:
        raise _refused(str(error) or "the converter to grammars does not support it") from error
    except Exception as error:  # the converter does not validate and raises anything
        raise _refused("the converter to grammars does not support it") from error


def _check(part: dict[str, Any]) -> None:
    """Reject contradictions that the converter ignores and no text satisfies."""
    for low, high in _BOUNDS:
        least, most = part.get(low), part.get(high)
        if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
            raise _refused(f"{low} is greater than {high}")
    joined = part.get("allOf")
    if isinstance(joined, list) and not all(map(_joins, [{"type": part.get("type")}, *joined])):
        raise _refused("allOf is supported for objects only")


def _joins(part: Any) -> bool:
    """Whether the converter can merge it: it looks at properties only."""
    return isinstance(part, dict) and part.get("type", "object") in (None, "object")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Key-value pairs of all nested objects."""
    for part in _objects(value):
        yield from part.items()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All nested objects."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _refused(why: str) -> APIError:
    return APIError(400, f"unsupported JSON schema: {why}", param="response_format")
