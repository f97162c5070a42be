"""Parses function calls in the XML notation of Qwen 3 Coder and 3.5.

    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>

Strings are written without quotes and escapes, so the JSON schema decides what a value is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from localmtp.engine.text.json_types import coerce, resolved, types_of

Json = Mapping[str, Any]

_FUNCTION = re.compile(
    r"<function=([^\s<>]{1,256})>(.*?)(?:</function>|(?=<function=)|\Z)", re.DOTALL
)
_PARAMETER = re.compile(
    r"<parameter=([^\s<>]{1,256})>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL
)


def is_xml(text: str) -> bool:
    """Returns whether a call begins in this notation."""
    return text.lstrip().startswith("<function=")


def xml_calls(
    text: str, functions: Mapping[str, Json | None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the arguments of each call.

    Args:
        text: between the markers of a tool call.
        functions: JSON schemas of the parameters, by name of the function.
    """
    for name, body in _FUNCTION.findall(text):
        root = functions.get(name) or {}
        yield name, {key: _value(raw, key, root) for key, raw in _PARAMETER.findall(body)}


def _value(raw: str, key: str, root: Json) -> Any:
    """Value of a parameter; the line breaks around it are not part of it."""
    text = raw.removeprefix("\n").removesuffix("\n")
    schema: Any = next(
        (
            properties[key]
            for part in resolved(root, root)
            if isinstance(properties := part.get("properties"), Mapping) and key in properties
        ),
        {},
    )
    if "string" in types_of(schema, root):
        return coerce(text, schema, root)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return coerce(value, schema, root)
