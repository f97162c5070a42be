"""Markers of thoughts and tool calls as parts of grammars, in GBNF."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from localmtp.engine.markup.kinds import Markup, Notation

_BARE_KEY = re.compile(r"[\w$.-]+")


@dataclass(frozen=True, slots=True)
class ValueStyle:
    """How a notation writes JSON values."""

    colon: str = '":" " "?'
    comma: str = '"," " "?'
    quote: int | None = None
    """Token around strings, whose keys are bare; None for JSON."""

    @property
    def rules(self) -> str:
        """Rules for values of any type."""
        string, key = _JSON_STRING, "string"
        if self.quote is not None:
            token = f"<[{self.quote}]>"
            string, key = f"{token} (!{token})* {token}", "[a-zA-Z0-9_$.-]+"
        return f"""string ::= {string}
any ::= string | number | "true" | "false" | "null" | object | array
object ::= "{{" (key {self.colon} any ({self.comma} key {self.colon} any)*)? "}}"
array ::= "[" (any ({self.comma} any)*)? "]"
key ::= {key}
integer ::= "-"? ("0" | [1-9] [0-9]{{0,15}})
number ::= integer ("." [0-9]{{1,16}})? ([eE] [+-]? [0-9]{{1,3}})?"""

    def key(self, key: str) -> str:
        """Expression for a key."""
        bare = self.quote is not None and _BARE_KEY.fullmatch(key)
        return literal(key) if bare else self.string(key)

    def string(self, text: str) -> str:
        """Expression for a string."""
        if self.quote is None:
            return literal(json.dumps(text, ensure_ascii=False))
        return f"<[{self.quote}]> {literal(text)} <[{self.quote}]>"


_JSON_STRING = r'"\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}))* "\""'


@dataclass(frozen=True, slots=True)
class AnswerMarkers:
    """Expressions for the parts of an answer; `rules` defines what they refer to."""

    notation: Notation
    style: ValueStyle
    opens_call: str
    """Empty if a call has no marker, and is the whole answer."""
    closes_call: str
    free: str
    """Text without a call."""
    opens_thought: str
    """Empty if the model does not think."""
    ends_thought: str
    """The rest of a thought, with its closing marker."""
    rules: tuple[str, ...] = ()
    arguments: str = "arguments"
    """Key of the arguments in JSON."""
    before_arguments: str = ""
    """Between the name and the arguments of `Notation.ARGS`."""


def answer_markers(markup: Markup, token: Callable[[str], int | None]) -> AnswerMarkers | None:
    """Returns the markers of a model; None if it has no notation for tool calls.

    Args:
        markup: of the model.
        token: returns the id of the token with a text, or None.
    """
    if markup.notation is Notation.NONE:
        return None
    texts = (*markup.all, markup.quote, *markup.inside)
    ids = {text: token(text) for text in texts if text}
    if markup.as_tokens and None in ids.values():
        return None
    quote = ids.get(markup.quote)
    style = ValueStyle() if quote is None else ValueStyle('":"', '","', quote)
    rules: list[str] = []
    (opens_thought, closes_thought), (opens_call, closes_call) = markup.thought, markup.call
    # Line breaks around what a marker encloses belong to the notation.
    space = "" if markup.as_tokens else " [\\n]{0,2}"

    def marker(text: str) -> str:
        return literal(text) if ids[text] is None else f"<[{ids[text]}]>"

    def text_before(name: str, text: str) -> str:
        if ids[text] is not None:
            return f"(!<[{ids[text]}]>)*"
        rules.extend(without(name, text))
        return name

    ends_thought = ""
    if closes_thought:
        ends_thought = f"{text_before('thinking', closes_thought)} {marker(closes_thought)}{space}"
    opens, free = marker(opens_call) + space, "no-object"
    if markup.bare:
        opens = ""
        rules.append("no-object ::= ([^{ \\n\\r\\t] anything*)?\nanything ::= [^\\x00]")
    else:
        free = text_before("free", opens_call)
    closes = f"{space} {marker(closes_call)}{space}" if closes_call else ""
    if markup.listed:
        opens, closes = f'{opens} "["', '"]"'
    return AnswerMarkers(
        markup.notation,
        style,
        opens,
        closes,
        free,
        marker(opens_thought) if opens_thought else "",
        ends_thought,
        tuple(rules),
        markup.arguments,
        marker(markup.inside[0]) if markup.inside else "",
    )


def literal(text: str) -> str:
    """A string of GBNF."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


def without(name: str, text: str) -> Iterator[str]:
    """Yields rules of any text that does not contain another one.

    The states of a search by Knuth, Morris and Pratt, one rule each.
    """
    letters = dict.fromkeys(text)
    others = "[^" + "".join(map(_in_class, letters)) + "]"
    for state in range(len(text)):
        follow = [f"{others} {name}"]
        for letter in letters:
            reached = _reached(text, text[:state] + letter)
            if reached < len(text):
                follow.append(f"{literal(letter)} {_state(name, reached)}")
        yield f"{_state(name, state)} ::= ({' | '.join(follow)})?"


def _reached(text: str, seen: str) -> int:
    """Length of the longest end of `seen` that `text` begins with."""
    return next(n for n in range(len(seen), -1, -1) if text.startswith(seen[len(seen) - n :]))


def _state(name: str, state: int) -> str:
    return f"{name}-{state}" if state else name


def _in_class(letter: str) -> str:
    escapes = {"\\": "\\\\", "]": "\\]", "^": "\\^", "-": "\\-", "\n": "\\n"}
    return escapes.get(letter, letter)
