"""Parses function calls in Gemma 4's notation.

A call is `<|tool_call>call:NAME{key:value,…}<tool_call|>`. Strings are enclosed in `<|"|>`, keys
are bare or quoted like strings; numbers, true, false, lists and objects are as in JSON. The chat
templates of the published checkpoints render this notation.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

OPEN, CLOSE = "<|tool_call>", "<tool_call|>"
_QUOTE = '<|"|>'
_NAME = re.compile(r"\s*call:([\w.-]+)\s*(?=\{)")
_KEY = re.compile(r"[^\s:,{}\[\]][^:,{}\[\]]*:")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None, "None": None}
_DEEPEST = 64
"""Nesting that is still read; deeper text is no call that a tool could mean."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function and what it is to be called with."""

    name: str
    arguments: dict[str, Any]
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def as_dict(self) -> dict[str, Any]:
        """In OpenAI's form: the arguments are JSON in a string."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        function = {"name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


class CallScanner:
    """Takes calls out of a growing text.

    Args:
        begun: what the prompt ends with, when it has begun a call for the model.
    """

    def __init__(self, begun: str = "") -> None:
        self._held = begun

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """Add text.

        Returns:
            What can be shown now, and the calls that were completed. What looks like a call and
            cannot be read is shown as it is.
        """
        self._held += text
        shown, calls = "", []
        while True:
            before, opened, rest = self._held.partition(OPEN)
            inside, closed, after = rest.partition(CLOSE)
            if not closed:
                break
            call = parse_call(inside)
            shown += before if call else before + OPEN + inside + CLOSE
            calls += [call] if call else []
            self._held = after
        if not opened:
            keep = _beginning_of_marker(before)
            shown += before[: len(before) - keep]
            self._held = before[len(before) - keep :]
        return shown, calls

    def rest(self) -> tuple[str, list[Call]]:
        """What was held back, once no more text comes; a call may lack its end."""
        held, self._held = self._held, ""
        before, _, inside = held.partition(OPEN)
        call = parse_call(inside)
        return (before, [call]) if call else (held, [])


def parse_call(text: str) -> Call | None:
    """Read what stands between the markers; None for what is not a call."""
    name = _NAME.match(text)
    if name is None:
        return None
    reader = _Reader(text, name.end())
    try:
        arguments = reader.object(0)
    except ValueError:
        return None
    return None if text[reader.at :].strip() else Call(name[1], arguments)


class _Reader:
    """A recursive descent over one call's arguments."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at

    def object(self, depth: int) -> dict[str, Any]:
        """`{key:value,…}`."""
        self._expect("{")
        found: dict[str, Any] = {}
        while not self._skip("}"):
            key = self._string() if self._ahead(_QUOTE) else self._match(_KEY)[:-1].strip()
            self._skip(":")
            found[key] = self._value(depth + 1)
            if not self._skip(","):
                self._expect("}")
                break
        return found

    def _value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError
        if self._ahead(_QUOTE):
            return self._string()
        if self._ahead("{"):
            return self.object(depth)
        if self._ahead("["):
            return self._list(depth)
        for word, value in _WORDS.items():
            if self._skip(word):
                return value
        return json.loads(self._match(_NUMBER))

    def _list(self, depth: int) -> list[Any]:
        self._expect("[")
        found = []
        while not self._skip("]"):
            found.append(self._value(depth + 1))
            if not self._skip(","):
                self._expect("]")
                break
        return found

    def _string(self) -> str:
        self._expect(_QUOTE)
        end = self._text.index(_QUOTE, self.at)
        found = self._text[self.at : end]
        self.at = end + len(_QUOTE)
        return found

    def _ahead(self, words: str) -> bool:
        while self._text[self.at : self.at + 1].isspace():
            self.at += 1
        return self._text.startswith(words, self.at)

    def _skip(self, words: str) -> bool:
        found = self._ahead(words)
        self.at += len(words) if found else 0
        return found

    def _expect(self, words: str) -> None:
        if not self._skip(words):
            raise ValueError

    def _match(self, pattern: re.Pattern[str]) -> str:
        self._ahead("")
        found = pattern.match(self._text, self.at)
        if found is None:
            raise ValueError
        self.at = found.end()
        return found[0]


def _beginning_of_marker(text: str) -> int:
    """Length of the longest end of `text` with which the opening marker begins."""
    return next((n for n in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:n])), 0)
