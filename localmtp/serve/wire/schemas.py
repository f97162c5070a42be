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

_BOUNDS = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))


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
        parts = list(_objects(schema))
    except RecursionError as error:
        raise _refused("it is nested too deeply") from error
    if len(text) > _LONGEST:
        raise _refused(f"it is longer than {_LONGEST} bytes")
    for key, value in entries:
        if key in _REPEATED and isinstance(value, int) and value > _MOST_REPEATED:
            raise _refused(f"{key} is more than {_MOST_REPEATED}")
        if key == "pattern" and "{" in str(value):
            raise _refused("a pattern counts repetitions")
    for part in parts:
        _check(part)
    try:
        return gbnf(text)
    except Exception as error:  # the converter raises whatever a schema makes it
        raise _refused("it is not one that can be followed while generating") from error


def _check(part: dict[str, Any]) -> None:
    """Refuse what the converter passes over in silence, and no text could satisfy."""
    for low, high in _BOUNDS:
        least, most = part.get(low), part.get(high)
        if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
            raise _refused(f"{low} is more than {high}")
    joined = part.get("allOf")
    if isinstance(joined, list) and not all(map(_joins, [{"type": part.get("type")}, *joined])):
        raise _refused("allOf of anything but objects")


def _joins(part: Any) -> bool:
    """Whether the converter can join it with others: it looks at properties alone."""
    return isinstance(part, dict) and part.get("type", "object") in (None, "object")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every object, at any depth."""
    for part in _objects(value):
        yield from part.items()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object, at any depth."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _refused(why: str) -> APIError:
    return APIError(400, f"the JSON schema cannot be used: {why}", param="response_format")
