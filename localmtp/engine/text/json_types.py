"""Fits loosely written values to the types that a JSON schema declares."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "none": None}
_MAX_PARTS = 256
"""Maximum number of alternatives of a schema that are considered."""


def resolved(schema: Any, root: Json) -> Iterator[Json]:
    """Yields the schema and its alternatives (`$ref`, `anyOf`, `oneOf`, `allOf`), each once."""
    seen: set[int] = set()
    left = [schema]
    while left and len(seen) < _MAX_PARTS:
        part = left.pop()
        if not isinstance(part, Mapping) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        for key in ("allOf", "oneOf", "anyOf"):
            parts = part.get(key)
            left += parts[::-1] if isinstance(parts, list) else ()
        if isinstance(reference := part.get("$ref"), str):
            left.append(_target(reference, root))


def types_of(schema: Any, root: Json) -> frozenset[str]:
    """JSON types that the schema allows; empty for any."""
    types: set[str] = set()
    for part in resolved(schema, root):
        declared = part.get("type")
        names = declared if isinstance(declared, list) else [declared]
        types.update(name for name in names if isinstance(name, str))
        if part.get("nullable") is True:
            types.add("null")
        values = part["enum"] if isinstance(part.get("enum"), list) else []
        values = [*values, part["const"]] if "const" in part else values
        types.update(_type_of(value) for value in values)
        if declared is None and isinstance(part.get("properties"), Mapping):
            types.add("object")
    return frozenset(types)


def scalar(word: str, schema: Any, root: Json) -> Any:
    """Value of a word without quotes."""
    types = types_of(schema, root)
    if not word:
        return "" if "string" in types else None
    if "string" in types and not (types & {"number", "integer"} and _number(word) is not None):
        nullable = word in ("null", "None") and "null" in types
        return None if nullable else _enum_value(word, schema, root)
    if word.casefold() in _WORDS:
        return _WORDS[word.casefold()]
    number = _number(word)
    return coerce(word if number is None else number, schema, root)


def coerce(value: Any, schema: Any, root: Json) -> Any:
    """Convert a value to a declared type if it has another one and the meaning is clear.

    Args:
        value: JSON-like.
        schema: declares the type; empty for any.
        root: schema that `$ref` refers to.

    Returns:
        The converted value, or the value unchanged.
    """
    types = types_of(schema, root)
    if isinstance(value, str) and "string" in types:
        return _enum_value(value, schema, root)
    if not types or _type_of(value) in types:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and "number" in types:
        return value
    if isinstance(value, str):
        return _from_string(value, types, schema, root)
    if isinstance(value, float) and value.is_integer() and "integer" in types:
        return int(value)
    if "array" in types and not isinstance(value, dict):
        return [value]
    if "string" in types and not isinstance(value, dict | list):
        return json.dumps(value)
    return value


def _from_string(text: str, types: frozenset[str], schema: Any, root: Json) -> Any:
    stripped = text.strip()
    number = _number(stripped)
    if number is not None and (
        "number" in types or ("integer" in types and float(number).is_integer())
    ):
        return number if "number" in types else int(number)
    word = stripped.casefold()
    if word in _WORDS and _type_of(_WORDS[word]) in types:
        return _WORDS[word]
    if types & {"object", "array"}:
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict | list) and _type_of(value) in types:
            return value
        if "array" in types:
            items = schema.get("items") if isinstance(schema, Mapping) else None
            return [coerce(text, items, root)] if stripped else []
    return text


def _enum_value(text: str, schema: Any, root: Json) -> str:
    """The declared value that differs in case or spaces only."""
    for part in resolved(schema, root):
        values = part.get("enum")
        if isinstance(values, list) and text not in values:
            same = [v for v in values if isinstance(v, str) and _folded(v) == _folded(text)]
            if len(same) == 1:
                return same[0]
    return text


def _folded(text: str) -> str:
    return text.strip().casefold()


def _number(word: str) -> int | float | None:
    if not _NUMBER.fullmatch(word):
        return None
    try:
        return int(word)
    except ValueError:
        number = float(word)
        return number if math.isfinite(number) else None


def _target(reference: str, root: Json) -> Any:
    if not reference.startswith("#"):
        return None
    at: Any = root
    for step in reference[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        at = at.get(step) if isinstance(at, Mapping) else None
    return at


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "array"
