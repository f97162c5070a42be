"""Content of messages marked as text, so that it cannot become tokens that structure a turn.

A chat template writes control tokens (`<|turn>`) and content into one string. In content, the first
character of anything that could form such a token is replaced by a Unicode noncharacter before
rendering. It survives what templates do with strings (trimming, splitting, concatenation), and is
replaced back when the prompt is tokenized (see `retokenize`) or shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_QUOTED = {"<": "\ufdd0", "[": "\ufdd1"}
"""First characters of control tokens; U+FDD0 to U+FDEF are reserved for use inside a program."""

MEDIA_MARK = "\ufdd2"
"""Stands for an image or sound in a rendered prompt."""

_QUOTE = str.maketrans(_QUOTED | dict.fromkeys((*_QUOTED.values(), MEDIA_MARK), "\ufffd"))
_UNQUOTE = str.maketrans({mark: character for character, mark in _QUOTED.items()})

MARK = re.compile("[" + "".join(_QUOTED.values()) + "]")
"""A quoted character."""

_THOUGHT = re.compile("\ufdd0\\|channel>(.*?)\ufdd0channel\\|>", re.DOTALL)
_THOUGHT_TAG = re.compile("\ufdd0(/?think(?:ing)?>)")
"""Written by models that were trained to think in tags; quoted, as the thought above."""


def quote(text: str) -> str:
    """Marks a text as content."""
    return text.translate(_QUOTE)


def unquote(text: str) -> str:
    """Returns a rendered prompt as it reads."""
    return text.translate(_UNQUOTE)


def restore_quotes(text: str) -> str:
    """Returns JSON or a `repr` in which quoted characters were escaped, with them quoted again."""
    for mark in _QUOTED.values():
        text = text.replace(f"\\u{ord(mark):04x}", mark)
    return text


def quote_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Marks all strings of a message; fields that are None are left out, as transformers does.

    The markers of thoughts in an answer's content are not quoted: templates search for them to
    remove the thoughts.
    """
    quoted = {key: quote_all(value) for key, value in message.items() if value is not None}
    content = quoted.get("content")
    if message.get("role") == "assistant" and isinstance(content, str):
        content = _THOUGHT.sub(r"<|channel>\1<channel|>", content)
        quoted["content"] = _THOUGHT_TAG.sub(r"<\1", content)
    return quoted


def quote_all(value: Any) -> Any:
    """Marks all strings inside JSON data, keys included."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Mapping):
        return {quote_all(key): quote_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [quote_all(item) for item in value]
    return value
