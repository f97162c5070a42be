"""Parses function calls in Gemma 4's notation, in those of other models, and in between.

A call is `call:NAME{key:value,…}` between the tokens `<|tool_call>` and `<tool_call|>`. Strings are
enclosed in the token `<|"|>`; keys are bare; numbers, true, false, lists and objects are as in
JSON. The chat templates of the published checkpoints render this notation.

Models drift from it: JSON or Python quotes, bare words, Python's `True` and `None`, missing or
additional braces, a JSON object with `name` and `arguments`, `NAME(key=value)`. The declared JSON
schema of the function decides what an ambiguous value is.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localmtp.engine.markup.kinds import GEMMA4
from localmtp.engine.text.json_types import coerce, resolved, scalar
from localmtp.engine.text.xml_calls import is_xml, xml_calls
from localmtp.unicode import replace_surrogates

QUOTE = GEMMA4.quote
"""Encloses strings in tool calls; a token of its own, so that strings may contain any text."""

Json = Mapping[str, Any]

_NAME = re.compile(r"""\s*(?:call\s*:\s*)?(["']?)([^\s{}()\[\],"'=<>]{1,256})\1\s*""")
_BARE_KEY = re.compile(r"""[^\s:=,{}\[\]()"'][^:=,{}\[\]()"']*?\s*(?=[:=])""")
_NEXT_KEY = re.compile(r"""\s*(?:<\|"\|>|["'])?[\w$.-]{1,64}(?:<\|"\|>|["'])?\s*[:=]""")
_LEFTOVER = re.compile(r"[\s,;})]*")
_BARE_END = re.compile(r"[,{}\[\]()]")
_KEY_OR_END = re.compile(_NEXT_KEY.pattern + r"|\s*(?:[}\])]|$)")
_ARGS = re.compile(r"(?:\[CALL_ID\][\w\s-]{0,64})?\[ARGS\](?=\s*\{)")
"""Mistral's marks between a name and its arguments."""
_MAX_DEPTH = 64
"""Deeper nesting is rejected: no function needs it."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call by the model."""

    name: str
    arguments: dict[str, Any]
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")


def parse_calls(
    text: str, functions: Mapping[str, Json | None], *, marked: bool = True
) -> list[ToolCall]:
    """Parse the text between the markers of a tool call.

    Args:
        text: in the model's notation, with `QUOTE` around strings.
        functions: JSON schemas of the parameters, by name of the function; None for no schema.
        marked: whether there were markers; otherwise text that calls an undeclared function is
            no call.

    Returns:
        Usually one call; models sometimes write several between two markers. Empty if the text
        cannot be parsed.
    """
    text = replace_surrogates(text)
    if is_xml(text):
        calls = [
            ToolCall(_declared(name, functions), arguments)
            for name, arguments in xml_calls(text, functions)
        ]
        return calls if marked or _all_declared(calls, functions) else []
    text = _ARGS.sub(" ", text)
    if text.lstrip().startswith("["):
        text = _without_brackets(text)
    calls = []
    at = 0
    try:
        while (at := _LEFTOVER.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            call, at = _parse_one(text, at, functions)
            calls.append(call)
    except (_SyntaxError, RecursionError):
        return []
    return calls if marked or _all_declared(calls, functions) else []


def _all_declared(calls: Iterable[ToolCall], functions: Mapping[str, Json | None]) -> bool:
    return all(call.name in functions for call in calls)


def _without_brackets(text: str) -> str:
    """Returns a list of calls in JSON as one call after another."""
    try:
        calls = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    several = isinstance(calls, list) and len(calls) > 1
    return "\n".join(map(json.dumps, calls)) if several else text


def readable(text: str) -> str:
    """Returns a call that cannot be parsed as human-readable text."""
    return text.replace(QUOTE, '"')


def _parse_one(text: str, at: int, functions: Mapping[str, Json | None]) -> tuple[ToolCall, int]:
    if text.startswith(("{", "["), at):
        return _parse_json(text, at, functions)
    found = _NAME.match(text, at)
    if found is None:
        raise _SyntaxError
    name = _declared(found[2].strip(":./"), functions)
    schema = functions.get(name) or {}
    parser = _Parser(text, found.end(), schema)
    if not parser.text_left():
        if not found[0].lstrip().startswith("call") and name not in functions:
            raise _SyntaxError  # a single word
        return ToolCall(name, {}), parser.at
    opened = parser.opening()
    if not opened and not _NEXT_KEY.match(text, parser.at):
        raise _SyntaxError
    arguments = parser.object_body(schema, 0, opened or "")
    return ToolCall(name, coerce(arguments, schema, schema)), parser.at


def _parse_json(text: str, at: int, functions: Mapping[str, Json | None]) -> tuple[ToolCall, int]:
    """`{"name": "f", "arguments": {…}}`, the notation of other models."""
    parser = _Parser(text, at, {})
    value = parser.value({}, 0, in_object=False)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise _SyntaxError
    name = _declared(value["name"], functions)
    arguments = value.get("arguments", value.get("parameters")) or {}
    schema = functions.get(name) or {}
    arguments = coerce(arguments, {"type": "object", **schema}, schema)
    if not isinstance(arguments, dict):
        raise _SyntaxError
    return ToolCall(name, arguments), parser.at


def _declared(name: str, functions: Mapping[str, Json | None]) -> str:
    """Returns the declared function of a name; models add prefixes such as `default_api:`."""
    if name in functions or not functions:
        return name
    ends = {known for known in functions if re.search(rf"[:./]{re.escape(known)}$", name)}
    same = {known for known in functions if known.casefold() == name.casefold()}
    close = ends or same
    return close.pop() if len(close) == 1 else name


class _SyntaxError(Exception):
    """The text is not a call."""


class _Parser:
    """Recursive descent over the arguments of a call; never backtracks."""

    def __init__(self, text: str, at: int, root: Json) -> None:
        self._text = text
        self._root = root
        self.at = at

    def text_left(self) -> bool:
        """Skip whitespace; whether anything follows it."""
        self._skip_space()
        return self.at < len(self._text)

    def opening(self) -> str:
        """Skip the bracket before the arguments; empty if it is missing."""
        for bracket in "{(":
            if self._skip(bracket):
                return bracket
        return ""

    def object_body(self, schema: Json, depth: int, opened: str) -> dict[str, Any]:
        """`key:value,…}`; the closing bracket may be missing at the end of the text."""
        if depth > _MAX_DEPTH:
            raise _SyntaxError
        close = {"{": "}", "(": ")", "": ""}[opened]
        if opened == "(" and self._skip("{"):  # NAME({…})
            found = self.object_body(schema, depth, "{")
            self._skip(")")
            return found
        found = {}
        while not (close and self._skip(close)):
            if not self.text_left():
                break
            key = self._key()
            if not (self._skip(":") or self._skip("=")):
                raise _SyntaxError
            found[key] = self.value(_property(schema, key, self._root), depth + 1, in_object=True)
            if not self._skip(","):
                if close and self.text_left() and not self._skip(close):
                    raise _SyntaxError
                break
        return found

    def value(self, schema: Json, depth: int, *, in_object: bool) -> Any:
        """Any value; `schema` decides what bare words and quoted numbers are."""
        if depth > _MAX_DEPTH:
            raise _SyntaxError
        self._skip_space()
        if self._ahead(QUOTE):
            return coerce(self._quoted_by_token(), schema, self._root)
        if self._text[self.at : self.at + 1] in ('"', "'"):
            return coerce(self._quoted(), schema, self._root)
        if self._skip("{"):
            return coerce(self.object_body(schema, depth, "{"), schema, self._root)
        for bracket, close in (("[", "]"), ("(", ")")):
            if self._skip(bracket):
                return coerce(self._list(schema, depth, close), schema, self._root)
        return scalar(self._bare(in_object=in_object), schema, self._root)

    def _list(self, schema: Json, depth: int, close: str) -> list[Any]:
        items = schema.get("items")
        found: list[Any] = []
        while not self._skip(close):
            if not self.text_left():
                break
            item = items if isinstance(items, Mapping) else {}
            found.append(self.value(item, depth + 1, in_object=False))
            if not self._skip(","):
                if self.text_left() and not self._skip(close):
                    raise _SyntaxError
                break
        return found

    def _key(self) -> str:
        self._skip_space()
        if self._ahead(QUOTE):
            return self._quoted_by_token()
        if self._text[self.at : self.at + 1] in ('"', "'"):
            return self._quoted()
        found = _BARE_KEY.match(self._text, self.at)
        if found is None:
            raise _SyntaxError
        self.at = found.end()
        return found[0].strip()

    def _quoted_by_token(self) -> str:
        self.at += len(QUOTE)
        end = self._text.find(QUOTE, self.at)
        if end >= 0:
            found, self.at = self._text[self.at : end], end + len(QUOTE)
            return found
        rest, self.at = self._text[self.at :], len(self._text)
        return rest.rstrip().rstrip("}])").rstrip()

    def _quoted(self) -> str:
        """A string in `"` or `'`; quotes inside it that no delimiter follows are text."""
        quote = self._text[self.at]
        start = self.at = self.at + 1
        while self.at < len(self._text):
            letter = self._text[self.at]
            if letter == "\\":
                self.at += 2
            elif letter == quote and self._delimiter_follows():
                raw = self._text[start : self.at]
                self.at += 1
                return _unescaped(raw, quote)
            else:
                self.at += 1
        self.at = len(self._text)
        return _unescaped(self._text[start:].rstrip().rstrip("}])").rstrip(), quote)

    def _delimiter_follows(self) -> bool:
        at = self.at + 1
        while self._text[at : at + 1].isspace():
            at += 1
        return at >= len(self._text) or self._text[at] in ",:=}])"

    def _bare(self, *, in_object: bool) -> str:
        """A word without quotes; in an object, a comma ends it only in front of the next key."""
        start = self.at
        while found := _BARE_END.search(self._text, self.at):
            self.at = found.start()
            comma = found[0] == ","
            if not comma and found[0] in "{[(":
                self.at += 1  # text such as `f(x)`; closing brackets end the word
                continue
            if comma and in_object and not _KEY_OR_END.match(self._text, self.at + 1):
                self.at += 1
                continue
            break
        else:
            self.at = len(self._text)
        return self._text[start : self.at].strip()

    def _skip_space(self) -> None:
        while self._text[self.at : self.at + 1].isspace():
            self.at += 1

    def _ahead(self, words: str) -> bool:
        return self._text.startswith(words, self.at)

    def _skip(self, words: str) -> bool:
        self._skip_space()
        found = self._ahead(words)
        self.at += len(words) if found else 0
        return found


def _property(schema: Json, key: str, root: Json) -> Json:
    """Schema of a property; empty if it is not declared."""
    for part in resolved(schema, root):
        properties = part.get("properties")
        found = properties.get(key) if isinstance(properties, Mapping) else None
        if isinstance(found, Mapping):
            return found
        additional = part.get("additionalProperties")
        if isinstance(additional, Mapping):
            return additional
    return {}


def _unescaped(raw: str, quote: str) -> str:
    if "\\" not in raw:
        return raw
    if quote == "'":
        raw = raw.replace("\\'", "'").replace('"', '\\"')
    try:
        text = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        return raw.replace(f"\\{quote}", quote)
    return replace_surrogates(text) if isinstance(text, str) else raw
