"""Grammars that hold an answer to `tool_choice`, `parallel_tool_calls` and `strict`.

The grammars use the notation of the model; see `localmtp.engine.text.tool_calls`. Markers that are
tokens are matched as tokens (`<[ID]>` in GBNF), so text that looks like one is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from localmtp.engine.markup.kinds import Notation
from localmtp.engine.text.json_types import types_of
from localmtp.serve.wire.answer_markers import AnswerMarkers, ValueStyle, literal, without

Json = Mapping[str, Any]

_MAX_RULES = 2000
"""Rules per grammar; the rest of a larger schema accepts any value."""
_MAX_UNROLLED = 32
"""Items of an array that are counted."""
_BY_TYPE = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": '("true" | "false")',
    "null": '"null"',
    "object": "object",
    "array": "array",
}


@dataclass(frozen=True, slots=True)
class CallRules:
    """Constraints on an answer with tools."""

    functions: Mapping[str, Json | None]
    """Parameter schemas of the functions that may be called; None accepts any arguments."""
    required: bool = False
    """The answer is nothing but calls."""
    parallel: bool = True
    """Several calls are allowed."""

    def loose(self) -> CallRules:
        """The same for any arguments."""
        return replace(self, functions=dict.fromkeys(self.functions))


def answer_grammar(
    markers: AnswerMarkers,
    *,
    calls: CallRules | None = None,
    json_grammar: str = "",
    thinks: bool = False,
    in_thought: bool = False,
) -> str:
    """Grammar of a whole answer, in GBNF.

    Args:
        markers: of the model's vocabulary.
        calls: constrains tool calls; None forbids them.
        json_grammar: GBNF of the text, instead of free text.
        thinks: the answer may start with a thought.
        in_thought: the prompt has opened the thought.
    """
    rules = [markers.style.rules, *markers.rules]
    thought = _thought(markers, thinks=thinks, in_thought=in_thought)
    if json_grammar:
        rules.append(_renamed(json_grammar))
    if calls is None:
        return "\n".join([f"root ::= {thought} json", *rules])
    try:
        rules.append(_call_rules(markers, calls))
    except RecursionError:
        rules.append(_call_rules(markers, calls.loose()))
    alone = not markers.opens_call
    several = "call+" if calls.parallel and not alone else "call"
    if calls.required:
        body = f"{thought} {several}"
    elif json_grammar:
        body = f"{thought} (json | {several})"
    elif alone:
        body = f"{markers.free} | call"
    else:  # thoughts are part of the free text
        free = markers.free
        body = f"({free} call)* {free}" if calls.parallel else f"{free} call?"
    return "\n".join([f"root ::= {body}", *rules])


def _thought(markers: AnswerMarkers, *, thinks: bool, in_thought: bool) -> str:
    """An optional thought, or the rest of one."""
    if in_thought:
        return markers.ends_thought
    thought = f"({markers.opens_thought} {markers.ends_thought})?"
    return thought if thinks and markers.opens_thought else ""


def _call_rules(markers: AnswerMarkers, calls: CallRules) -> str:
    builder = _Rules(markers.style)
    write = _WRITERS[markers.notation]
    functions = [write(markers, builder, *function) for function in calls.functions.items()]
    call = f"call ::= {markers.opens_call} ({' | '.join(functions)}) {markers.closes_call}"
    return "\n".join([call, *builder.rules])


def _gemma_call(_: AnswerMarkers, builder: _Rules, name: str, schema: Json | None) -> str:
    return f"{literal(f'call:{name}')} {builder.arguments(schema)}"


def _json_call(markers: AnswerMarkers, builder: _Rules, name: str, schema: Json | None) -> str:
    start = literal(f'{{"name": {json.dumps(name)}, "{markers.arguments}": ')
    return f'{start} {builder.arguments(schema)} "}}"'


def _args_call(markers: AnswerMarkers, builder: _Rules, name: str, schema: Json | None) -> str:
    return f"{literal(name)} {markers.before_arguments} {builder.arguments(schema)}"


def _xml_call(_: AnswerMarkers, builder: _Rules, name: str, schema: Json | None) -> str:
    start, end = literal(f"<function={name}>\n"), literal("</function>")
    return f"{start} {builder.parameters(schema)} {end}"


_WRITERS = {
    Notation.GEMMA: _gemma_call,
    Notation.JSON: _json_call,
    Notation.XML: _xml_call,
    Notation.ARGS: _args_call,
}


class _Rules:
    """Converts parameter schemas; whatever it does not support accepts any value of the type."""

    def __init__(self, style: ValueStyle) -> None:
        self.rules: list[str] = []
        self._style = style
        self._text_rules = False
        self._references: dict[int, str] = {}

    def arguments(self, schema: Json | None) -> str:
        """Rule for the arguments of a function."""
        if schema is None:
            return "object"
        return self._object(schema, schema)

    def parameters(self, schema: Json | None) -> str:
        """Rule for the arguments of a function in XML, in the order of the schema."""
        text = self._text()
        properties = (schema or {}).get("properties")
        if schema is None or not isinstance(properties, Mapping):
            return f'("<parameter=" [a-zA-Z0-9_$.-]+ ">\\n" {text} "\\n</parameter>\\n")*'
        needed = schema.get("required")
        parts = []
        for key, value in properties.items():
            written = f'{literal(f"<parameter={key}>")} "\\n" {self._written(value, schema)}'
            part = f'({written} "\\n</parameter>\\n")'
            optional = not isinstance(needed, list) or key not in needed
            parts.append(part + ("?" if optional else ""))
        return " ".join(parts) or '""'

    def _written(self, schema: Any, root: Json) -> str:
        """A parameter's value: text without quotes, or JSON."""
        types = types_of(schema, root)
        if types and "string" not in types:
            return self._value(schema, root)
        values = schema.get("enum") if isinstance(schema, Mapping) else None
        if isinstance(values, list) and values:
            return self._add(" | ".join(literal(str(value)) for value in values))
        return self._text()

    def _text(self) -> str:
        """Text up to the end of a parameter."""
        if not self._text_rules:
            self._text_rules = True
            self.rules += without("value-text", "\n</parameter>")
        return "value-text"

    def _value(self, schema: Any, root: Json) -> str:
        if not isinstance(schema, Mapping) or len(self.rules) > _MAX_RULES:
            return "any"
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, root)
        for key in ("anyOf", "oneOf"):
            if isinstance(parts := schema.get(key), list) and parts:
                return self._add(" | ".join(self._value(part, root) for part in parts))
        values = schema.get("enum") if isinstance(schema.get("enum"), list) else None
        values = [schema["const"]] if "const" in schema else values
        if values:
            return self._add(" | ".join(self._constant(value) for value in values))
        types = sorted(types_of(schema, root) & _BY_TYPE.keys())
        if not types:
            return "any"
        return self._add(" | ".join(self._typed(kind, schema, root) for kind in types))

    def _typed(self, kind: str, schema: Json, root: Json) -> str:
        if kind == "object":
            return self._object(schema, root)
        if kind == "array" and isinstance(schema.get("items"), Mapping):
            return self._array(schema, root)
        return _BY_TYPE[kind]

    def _array(self, schema: Json, root: Json) -> str:
        item = self._value(schema["items"], root)
        least, most = _count(schema.get("minItems")), _count(schema.get("maxItems"))
        fewer = max(0, (least or 0) - 1)
        # libllama does not end on reversed bounds.
        limit = "" if most is None else str(max(fewer, most - 1))
        more = f"({item} ({self._style.comma} {item}){{{fewer},{limit}}})"
        if most == 0:
            return '"[" "]"'
        return f'"[" {more}{"" if least else "?"} "]"'

    def _object(self, schema: Json, root: Json) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            closed = schema.get("additionalProperties") is False or properties == {}
            return '"{" "}"' if closed else "object"
        needed = schema.get("required")
        needed = needed if isinstance(needed, list) else []
        colon, comma = self._style.colon, self._style.comma
        pairs = [
            (f"{self._key(str(key))} {colon} {self._value(value, root)}", key in needed)
            for key, value in properties.items()
        ]
        # From the last property to the first: the rest of the object after each of them, depending
        # on whether a comma is due. The size is linear in the number of properties.
        first, later = '""', '""'
        for pair, must in reversed(pairs):
            skip_first, skip_later = ("", "") if must else (f" | {first}", f" | {later}")
            first, later = (
                self._add(f"{pair} {later}{skip_first}"),
                self._add(f"{comma} {pair} {later}{skip_later}"),
            )
        return f'"{{" {first} "}}"'

    def _reference(self, reference: str, root: Json) -> str:
        at: Any = root
        for step in reference.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            at = at.get(step) if isinstance(at, Mapping) else None
        if not isinstance(at, Mapping) or not reference.startswith("#") or "$ref" in at:
            return "any"
        if id(at) not in self._references:
            name = self._references[id(at)] = f"ref-{len(self._references)}"
            self.rules.append(f"{name} ::= {self._value(at, root)}")
        return self._references[id(at)]

    def _key(self, key: str) -> str:
        return self._style.key(key)

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            return self._style.string(value)
        colon, comma = self._style.colon, f" {self._style.comma} "
        if isinstance(value, dict):
            pairs = comma.join(
                f"{self._key(k)} {colon} {self._constant(v)}" for k, v in value.items()
            )
            return f'"{{" {pairs} "}}"'
        if isinstance(value, list):
            items = comma.join(map(self._constant, value))
            return f'"[" {items} "]"'
        return literal(json.dumps(value))

    def _add(self, body: str) -> str:
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name} ::= {body}")
        return name


def _renamed(grammar: str) -> str:
    """The grammar of a JSON schema with its own names, so that it can be part of another."""
    word = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-zA-Z][\w-]*')

    def rename(found: re.Match[str]) -> str:
        text = found[0]
        if text[0] in '"[':
            return text
        return "json" if text == "root" else f"json-{text}"

    return word.sub(rename, grammar)


def _count(value: Any) -> int | None:
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_UNROLLED
    return value if usable else None
