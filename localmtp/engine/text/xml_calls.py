"""Parses function calls in the XML notations of Qwen 3 Coder and 3.5, and of GLM 4.

    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>

GLM 4 writes the same in other tags:

    NAME
    <arg_key>KEY</arg_key>
    <arg_value>VALUE</arg_value>

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
_GLM_FUNCTION = re.compile(r"\s*([^\s<>{}]{1,256})\s*(?=<arg_key>)")
_GLM_PARAMETER = re.compile(
    r"<arg_key>\s*([^\s<>]{1,256})\s*</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|\Z)", re.DOTALL
)


def is_xml(text: str) -> bool:
    """Returns whether a call begins in one of these notations."""
    return text.lstrip().startswith("<function=") or _GLM_FUNCTION.match(text) is not None


def xml_calls(
    text: str, functions: Mapping[str, Json | None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the arguments of each call.

    Args:
        text: between the markers of a tool call.
        functions: JSON schemas of the parameters, by name of the function.
    """
    if found := _GLM_FUNCTION.match(text):
        root = functions.get(found[1]) or {}
        pairs = _GLM_PARAMETER.findall(text, found.end())
        yield found[1], {key: _value(raw, key, root) for key, raw in pairs}
        return
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
