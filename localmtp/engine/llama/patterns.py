"""Regular expressions of JSON schemas, converted to GBNF for the content of a JSON string.

Supports literals, classes, groups, alternatives, repetitions and anchors at the ends (ECMA-262
without lookarounds and back references). libllama follows all alternatives in parallel, so the
number of places that a match can be at is limited.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_MAX_POSITIONS = 1000
"""Characters and classes of a pattern, with repetitions unrolled."""
_MAX_FAN = 64
"""Characters and classes that may come next at any place: each is a stack in libllama."""
_MAX_DEPTH = 50
_UNSAFE = '"\\\\\\x00-\\x1F'
"""Characters that a JSON string escapes, for a class of GBNF."""
_CLASSES = {"d": "0-9", "w": "a-zA-Z0-9_", "s": " "}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


@dataclass(frozen=True, slots=True)
class _Node:
    text: str
    """GBNF."""
    nullable: bool
    """Whether it matches the empty text."""
    first: int
    """Number of characters and classes that it can start with."""
    positions: int


_NOTHING = _Node('""', True, 0, 0)
_ANY = _Node(f"[^{_UNSAFE}]", False, 1, 1)


def pattern_to_gbnf(pattern: str) -> str:
    """Convert a pattern.

    Returns:
        GBNF for the string without its quotation marks.

    Raises:
        ValueError: the pattern is invalid, not supported, or too expensive to follow.
    """
    starts = pattern.startswith("^")
    body = pattern.removesuffix("$")
    escapes = len(body) - len(body.rstrip("\\"))
    ends = pattern.endswith("$") and escapes % 2 == 0
    parser = _PatternParser(pattern[starts : len(pattern) - ends])
    node = parser.alternatives(0)
    if parser.left:
        raise ValueError("unbalanced parentheses")
    anything = _repeated(_ANY, 0, None)
    node = _sequence([*([] if starts else [anything]), node, *([] if ends else [anything])])
    return node.text


class _PatternParser:
    """Recursive descent over a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    @property
    def left(self) -> str:
        """The rest of the pattern."""
        return self._pattern[self._at :]

    def alternatives(self, depth: int) -> _Node:
        """Sequences separated by `|`, up to a closing parenthesis."""
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        branches = [self._sequence(depth)]
        while self._skip("|"):
            branches.append(self._sequence(depth))
        if len(branches) == 1:
            return branches[0]
        return _checked(
            _Node(
                f"({' | '.join(branch.text for branch in branches)})",
                any(branch.nullable for branch in branches),
                sum(branch.first for branch in branches),
                sum(branch.positions for branch in branches),
            )
        )

    def _sequence(self, depth: int) -> _Node:
        nodes: list[_Node] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            nodes.append(self._quantified(self._atom(depth)))
        return _sequence(nodes)

    def _atom(self, depth: int) -> _Node:
        letter = self._next()
        if letter == "(":
            if self._skip("?") and not self._skip(":"):
                raise ValueError("lookarounds and flags are not supported")
            node = self.alternatives(depth + 1)
            if not self._skip(")"):
                raise ValueError("unbalanced parentheses")
            return node
        if letter == "[":
            return self._character_class()
        if letter == ".":
            return _ANY
        if letter == "\\":
            return self._escape()
        if letter in "*+?":
            raise ValueError("nothing to repeat")
        if letter in "^$":
            raise ValueError("anchors are supported at the ends only")
        return _literal(letter)

    def _escape(self) -> _Node:
        letter = self._next()
        if letter.lower() in _CLASSES:
            members = _CLASSES[letter.lower()]
            text = f"[{members}]" if letter.islower() else f"[^{members}{_UNSAFE}]"
            return _Node(text, False, 1, 1)
        return _literal(self._escaped(letter))

    def _escaped(self, letter: str) -> str:
        if letter in ("x", "u"):
            digits = self._pattern[self._at : self._at + (2 if letter == "x" else 4)]
            self._at += len(digits)
            code = int(digits, 16)
            if 0xD800 <= code <= 0xDFFF:
                raise ValueError("surrogates are not supported")
            return chr(code)
        if letter.isalnum() and letter not in _ESCAPES:
            raise ValueError(f"\\{letter} is not supported")
        return _ESCAPES.get(letter, letter)

    def _character_class(self) -> _Node:
        negated = self._skip("^")
        members: list[str] = []
        escaped: list[_Node] = []
        while (letter := self._next()) != "]":
            if letter == "\\" and self._pattern[self._at : self._at + 1] in _CLASSES:
                members.append(_CLASSES[self._next()])
                continue
            low = self._member(letter)
            if low in '"\\' or low < " ":  # JSON escapes it: not a member, but an alternative
                escaped.append(_literal(low))
                continue
            after = self._pattern[self._at : self._at + 2]
            if after[:1] == "-" and after[1:] not in ("]", ""):
                self._at += 1
                high = self._member(self._next())
                if high < low:
                    raise ValueError("reversed range")
                members.append(f"{_class_member(low)}-{_class_member(high)}")
            else:
                members.append(_class_member(low))
        if negated:
            return _Node(f"[^{''.join(members)}{_UNSAFE}]", False, 1, 1)
        if members:
            escaped.append(_Node(f"[{''.join(members)}]", False, 1, 1))
        if not escaped:
            raise ValueError("empty class")
        if len(escaped) == 1:
            return escaped[0]
        n = len(escaped)
        return _Node(f"({' | '.join(node.text for node in escaped)})", False, n, n)

    def _member(self, letter: str) -> str:
        return self._escaped(self._next()) if letter == "\\" else letter

    def _quantified(self, node: _Node) -> _Node:
        while True:
            if self._skip("*"):
                node = _repeated(node, 0, None)
            elif self._skip("+"):
                node = _repeated(node, 1, None)
            elif self._skip("?"):
                node = _repeated(node, 0, 1)
            elif self._pattern[self._at : self._at + 1] == "{" and (counts := self._counts()):
                node = _repeated(node, *counts)
            else:
                return node
            self._skip("?")  # lazy: the same texts

    def _counts(self) -> tuple[int, int | None] | None:
        """`{m}`, `{m,}` or `{m,n}`; None for a literal brace."""
        end = self._pattern.find("}", self._at, self._at + 12)
        low, comma, high = (
            self._pattern[self._at + 1 : end].partition(",") if end > 0 else ("",) * 3
        )
        if not low.isdecimal() or not (high.isdecimal() or not high):
            return None
        self._at = end + 1
        least = int(low)
        most = (int(high) if high else None) if comma else least
        if most is not None and most < least:
            raise ValueError("reversed repetition")
        return least, most

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise ValueError("the pattern ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _skip(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found


def _sequence(nodes: list[_Node]) -> _Node:
    if not nodes:
        return _NOTHING
    first = run = 0
    nullable = True
    for node in nodes:
        run += node.first
        if run > _MAX_FAN:
            raise ValueError("too many optional parts next to each other")
        first = run if nullable else first
        nullable = nullable and node.nullable
        run = run if node.nullable else 0
    text = " ".join(node.text for node in nodes)
    positions = sum(node.positions for node in nodes)
    return _checked(_Node(f"({text})" if len(nodes) > 1 else text, nullable, first, positions))


def _repeated(node: _Node, least: int, most: int | None) -> _Node:
    if most == 0 or node.positions == 0:
        return _NOTHING
    if node.nullable and most != 1:
        raise ValueError("a repeated part can be empty")
    counts = {(0, None): "*", (1, None): "+", (0, 1): "?", (1, 1): ""}
    bounds = f"{{{least},{'' if most is None else most}}}"
    text = f"({node.text})" if node.text[-1] in "*+?}" else node.text
    text += counts.get((least, most), bounds)
    copies = max(1, least + 1 if most is None else most)
    nullable = node.nullable or least == 0
    return _checked(_Node(text, nullable, node.first, node.positions * copies))


def _checked(node: _Node) -> _Node:
    if node.positions > _MAX_POSITIONS:
        raise ValueError(f"longer than {_MAX_POSITIONS} characters, with repetitions")
    if node.first > _MAX_FAN:
        raise ValueError("too many alternatives")
    return node


def _literal(letter: str) -> _Node:
    """One character, escaped for JSON and then for GBNF."""
    text = json.dumps(letter, ensure_ascii=False)[1:-1]
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return _Node(f'"{text}"', False, 1, 1)


def _class_member(letter: str) -> str:
    return f"\\{letter}" if letter in "]^-[" else letter
